"""Finds a recording of the same files in a session, so that no second one is stored by mistake."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from comms.calls.recordings.upload_form import Upload
from comms.calls.sessions.queries import SessionParticipant
from comms.kernel.database import Actor, Connection
from models.contract.errors import Kind, WriteCareError


class DuplicateRecording(WriteCareError):
    """The session already has a recording of the same files, and the sender may see it."""

    def __init__(self, recording_id: UUID) -> None:
        super().__init__(
            Kind.CONFLICT,
            "recording-already-there",
            f"The session already has a recording of these files, {recording_id}: use that one, or send "
            "`duplicate=keep` with the form.",
        )
        self.recording_id = recording_id


def content_digest_of(session_id: UUID, upload: Upload, owners: Sequence[SessionParticipant | None]) -> bytes:
    """Returns one digest for the files, their participants and the session. It does not depend on the order of the
    files.
    """
    tracks = sorted(
        (str(owner.id) if owner is not None else "", digest)
        for owner, digest in zip(owners, upload.digests, strict=True)
    )
    return hashlib.sha256(repr((str(session_id), tracks)).encode()).digest()


async def refuse_duplicate(conn: Connection, actor: Actor, session_id: UUID, content_digest: bytes) -> None:
    """Raises `DuplicateRecording` if the session has a recording with this digest.

    Takes an advisory lock until the transaction ends: uploads of the same content to a session run one after the other.
    """
    await conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 29))",
        (f"{actor.tenant_id}/{session_id}/{content_digest.hex()}",),
    )
    # a separate statement after the lock, so that it sees what the previous holder of the lock committed
    found = await conn.execute(
        "select id from recordings where session_id = %s and content_digest = %s order by id limit 1",
        (session_id, content_digest),
    )
    if (row := await found.fetchone()) is not None:
        raise DuplicateRecording(row["id"])
