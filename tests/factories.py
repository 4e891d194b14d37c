"""Makes test objects with the application's own functions. Every object is new: tests never share a tenant."""

import io
import itertools
import uuid
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np

from comms.calls.recordings import ingestion
from comms.calls.recordings.queries import Recording
from comms.calls.recordings.upload_form import upload_of
from comms.calls.sessions import queries as sessions
from comms.calls.sessions.participants import add_participant
from comms.calls.sessions.queries import NewParticipant, NewSession, ParticipantType, SessionType
from comms.governance.consent import lawful_grounds
from comms.governance.consent import queries as consent
from comms.governance.consent.lawful_grounds import (
    PURPOSES,
    LegalBasis,
    NewProcessingActivity,
    ProcessingActivity,
    Purpose,
)
from comms.governance.consent.queries import ConsentChange, ConsentOrigin, ConsentRecord
from comms.identity import bootstrap as identity
from comms.identity.sign_ins.queries import open_sign_in
from comms.kernel.access.roles import ROLES
from comms.kernel.access.system_actor import system_actor
from comms.kernel.access.tokens import Issuer
from comms.kernel.database import Actor
from comms.messaging.attachments import ingestion as attachments
from comms.messaging.attachments.records import Attachment
from comms.web.context import AppContext
from comms.web.multipart_forms import UploadedFormFile

_PARTICIPANT_TYPE: dict[str, ParticipantType] = {
    **dict.fromkeys(ROLES, "staff"),
    "resident": "resident",
    "external": "family",
}

_numbers = itertools.count(1)


def new_slug(kind: str) -> str:
    """A slug that no other test uses."""
    return f"{kind}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"


def tomorrow() -> str:
    """A time in the future, as JSON contains it."""
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def new_address() -> str:
    """An IPv6 address (for documentation, RFC 3849) in a /64 network that no other test uses."""
    return f"2001:db8:0:{next(_numbers):x}::1"


async def make_tenant(ctx: AppContext) -> uuid.UUID:
    """Makes a tenant."""
    return await identity.ensure_tenant(ctx.database, new_slug("tenant"))


async def make_user(ctx: AppContext, tenant_id: uuid.UUID, role: str = "care_worker") -> Actor:
    """Makes a user of the tenant who can act in their role."""
    return await identity.ensure_user(ctx.database, tenant_id, new_slug(role.replace("_", "-")), role)


async def put_in_force(
    ctx: AppContext, decider: Actor, purpose: Purpose, legal_basis: LegalBasis = "consent"
) -> ProcessingActivity:
    """Puts a lawful basis for the purpose in force, decided by `decider`."""
    new = NewProcessingActivity(
        activity_type=purpose, purpose="care", legal_basis=legal_basis,
        special_category_condition="DPA 2018 Sch. 1 para. 18",
    )  # fmt: skip
    async with ctx.database.acting_as(decider) as conn:
        return await lawful_grounds.decide_ground(conn, decider, new)


async def put_all_in_force(ctx: AppContext, decider: Actor, legal_basis: LegalBasis = "consent") -> None:
    """Puts a lawful basis for every purpose in force."""
    for purpose in PURPOSES:
        await put_in_force(ctx, decider, purpose, legal_basis)


async def grant(ctx: AppContext, actor: Actor, person: Actor, *purposes: Purpose) -> list[ConsentRecord]:
    """`actor` records the person's consent to the purposes (all if none is given)."""
    async with ctx.database.acting_as(actor) as conn:
        return [
            await consent.grant_consent(
                conn, actor, ConsentChange(user_id=person.user_id, purpose=purpose), ConsentOrigin()
            )
            for purpose in purposes or PURPOSES
        ]


async def withdraw(ctx: AppContext, actor: Actor, person: Actor, *purposes: Purpose) -> list[ConsentRecord]:
    """`actor` records that the person refuses the purposes (all if none is given)."""
    async with ctx.database.acting_as(actor) as conn:
        return [
            await consent.withdraw_consent(
                conn, actor, ConsentChange(user_id=person.user_id, purpose=purpose), ConsentOrigin()
            )
            for purpose in purposes or PURPOSES
        ]


async def make_actor(ctx: AppContext, role: str = "care_worker") -> Actor:
    """Makes a user in a new tenant."""
    return await make_user(ctx, await make_tenant(ctx), role)


async def make_operator(ctx: AppContext) -> Actor:
    """Makes a platform administrator of the operator's tenant, which all tests share."""
    tenant_id = await identity.ensure_tenant(ctx.database, ctx.settings.operator_tenant)
    return await make_user(ctx, tenant_id, "platform_admin")


def bearer(ctx: AppContext, actor: Actor, lifetime: float = 600.0) -> dict[str, str]:
    """The `Authorization` header of `actor`."""
    issuer = Issuer.open(ctx.settings.data_dir / "keys", ctx.settings.issuer)
    return {"Authorization": f"Bearer {issuer.sign(actor, lifetime)}"}


def operator(ctx: AppContext) -> dict[str, str]:
    """The header with the operations token, for metrics and detailed health."""
    return operator_of(ctx.settings.data_dir)


def operator_of(data_dir: Path) -> dict[str, str]:
    """As `operator`, for the instance in this data folder."""
    return {"Authorization": f"Bearer {(data_dir / 'keys' / 'operations.token').read_text()}"}


def soon(hours: float = 1.0) -> str:
    """A time in the future, as a request contains it."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def signed_in(ctx: AppContext, person: Actor, lifetime_seconds: float = 3600.0) -> Actor:
    """The user with an open sign-in, as after a password."""
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id)) as conn:
        return await open_sign_in(conn, person, "local", lifetime_seconds)


async def make_session(
    ctx: AppContext, actor: Actor, *people: Actor, session_type: SessionType = "imported"
) -> uuid.UUID:
    """Makes a session in which the people take part."""
    async with ctx.database.acting_as(actor) as conn:
        new = NewSession(session_type=session_type, title="Weekly call")
        session_id = await sessions.create_session(conn, actor, new)
        for person in people:
            participant = NewParticipant(user_id=person.user_id, participant_type=_PARTICIPANT_TYPE[person.role])
            await add_participant(conn, actor, session_id, participant)
        return session_id


def wav(seconds: float = 1.0, *, rate: int = 16_000, channels: int = 1, hertz: float = 220.0) -> bytes:
    """A tone as a WAV file."""
    times = np.arange(int(seconds * rate)) / rate
    samples = (8000 * np.sin(2 * np.pi * hertz * times)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.repeat(samples, channels).tobytes())
    return file.getvalue()


def encoded(container: str, codec: str, seconds: float = 1.0, *, picture: bool = False) -> bytes:
    """A tone in another container, with a video stream if wanted."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        sound = output.add_stream(codec, rate=48_000, layout="mono")
        film = output.add_stream("mpeg4", rate=5, width=32, height=32) if picture else None
        frame = av.AudioFrame.from_ndarray(
            (8000 * np.sin(np.arange(int(seconds * 48_000)) * 0.03)).astype(np.int16)[None, :], "s16", "mono"
        )
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(sound.format, "mono", 48_000, sound.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(sound.encode(piece))
        output.mux(sound.encode(None))
        if film is not None:
            for _ in range(int(seconds * 5)):
                output.mux(film.encode(av.VideoFrame(32, 32, "yuv420p")))
            output.mux(film.encode(None))
    return file.getvalue()


async def make_call(ctx: AppContext, *, basis: LegalBasis = "consent") -> tuple[Actor, Actor, uuid.UUID]:
    """A manager, a resident, and their imported session, with all lawful bases in force and both people's consent."""
    manager = await make_actor(ctx, "care_manager")
    resident = await make_user(ctx, manager.tenant_id, "resident")
    await put_all_in_force(ctx, manager, basis)
    for person in (manager, resident):
        await grant(ctx, manager, person)
    return manager, resident, await make_session(ctx, manager, manager, resident)


async def store_recording(ctx: AppContext, actor: Actor, session_id: uuid.UUID, *files: bytes) -> Recording:
    """Stores a mixed recording of the session, as an upload is stored; without a file, one second of a tone."""
    sent = tuple(io.BytesIO(file) for file in files or (wav(),))
    upload = await upload_of(sent, keep_duplicate=True)  # a test may store the same tone twice
    return await ingestion.store_upload(ctx, actor, session_id, upload)


async def attach(
    ctx: AppContext, actor: Actor, conversation_id: uuid.UUID, content: bytes, name: str = "note.txt"
) -> Attachment:
    """Uploads an attachment of the actor to the conversation, without sending it."""
    sent = UploadedFormFile("file", name, None, io.BytesIO(content))
    return await attachments.store_file(ctx, actor, conversation_id, sent)


async def rows(ctx: AppContext, actor: Actor, statement: str, *values: Any) -> list[dict[str, Any]]:
    """The rows that the statement returns for `actor`."""
    async with ctx.database.acting_as(actor) as conn:
        return await (await conn.execute(statement.encode(), values)).fetchall()
