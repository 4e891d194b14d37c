"""Reads a stored track back: whole, as a byte range for a player, or as a file for the decoder."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import BinaryIO
from uuid import UUID

from comms.calls.recordings.queries import Recording, Track, load_recording, track_key
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.scratch_files import open_scratch
from comms.kernel.storage.segment_encryption import ByteRange, TrackObjectRef, sealed_range, unseal
from comms.web.context import AppContext
from models.contract.errors import missing


@dataclass(frozen=True)
class OpenedTrack:
    """A track with its key; `read` does not need the database."""

    track: Track
    object_ref: TrackObjectRef
    _key: bytes = field(repr=False)

    def read(self, ctx: AppContext, byte_range: ByteRange) -> AsyncIterator[bytes]:
        """Returns the decrypted bytes of the range, in pieces; raises a conflict (`recording-damaged`), `missing`,
        `unavailable`.
        """
        stored = ctx.objects.get(self.object_ref.object_key(), sealed_range(self.track.size_bytes, byte_range))
        return unseal(stored, self._key, self.object_ref, self.track.size_bytes, byte_range)


async def unlock_track(
    ctx: AppContext, conn: Connection, actor: Actor, recording: Recording, position: int
) -> OpenedTrack:
    """Returns the track at the position with its key; raises `missing` if there is none or it has been deleted."""
    for track in recording.tracks:
        if track.position == position:
            object_ref, wrapped = await track_key(conn, actor, recording, track)
            return OpenedTrack(track, object_ref, await ctx.keys.unwrap(wrapped, object_ref.context()))
    raise missing("track")


async def open_track(ctx: AppContext, actor: Actor, recording_id: UUID, position: int) -> BinaryIO:
    """Writes the decrypted track to an unnamed temporary file for the decoder; the caller closes it.

    The file is at its beginning. Raises `missing`, a conflict (`recording-damaged`, `key-damaged`), `unavailable`.
    """
    async with ctx.database.acting_as(actor) as conn:
        recording = await load_recording(conn, recording_id)
        opened = await unlock_track(ctx, conn, actor, recording, position)
    file = open_scratch(ctx.settings.data_dir)
    try:
        async for piece in opened.read(ctx, ByteRange(0, opened.track.size_bytes)):
            await asyncio.to_thread(file.write, piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
