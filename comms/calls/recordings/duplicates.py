"""Whether a session has a recording of the same files already: the one that is there is offered, none is made twice."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

from comms.calls.recordings.upload_form import Upload
from comms.calls.sessions.queries import SessionParticipant
from comms.kernel.database import Actor, Connection
from models.contract.errors import Kind, WriteCareError


class DuplicateRecording(WriteCareError):
    """The session has a recording of the same files, which the sender may see."""

    def __init__(self, recording_id: UUID) -> None:
        super().__init__(
            Kind.CONFLICT,
            "recording-already-there",
            f"The session has a recording of these files already, {recording_id}: use that one, or send "
            "`duplicate=keep` with the form.",
        )
        self.recording_id = recording_id


def content_digest_of(session_id: UUID, upload: Upload, owners: Sequence[SessionParticipant | None]) -> bytes:
    """The same for the same files of the same people in this session, in whatever order they are sent."""
    tracks = sorted(
        (str(owner.id) if owner is not None else "", digest)
        for owner, digest in zip(owners, upload.digests, strict=True)
    )
    return hashlib.sha256(repr((str(session_id), tracks)).encode()).digest()


async def refuse_duplicate(conn: Connection, actor: Actor, session_id: UUID, content_digest: bytes) -> None:
    """Raises `DuplicateRecording`; the session's uploads of the same content wait here for one another until their ends."""
    await conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 29))",
        (f"{actor.tenant_id}/{session_id}/{content_digest.hex()}",),
    )
    # a statement of its own, after the lock: it sees what was committed before the lock was free
    found = await conn.execute(
        "select id from recordings where session_id = %s and content_digest = %s order by id limit 1",
        (session_id, content_digest),
    )
    if (row := await found.fetchone()) is not None:
        raise DuplicateRecording(row["id"])
