"""An upload that fails during ingestion leaves nothing behind."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from obstore.store import LocalStore

from comms.calls.recordings import ingestion
from comms.calls.recordings.queries import lock_recording, mark_ready, park, requeue, shred
from comms.calls.recordings.sweep import sweep, sweep_forever
from comms.calls.recordings.upload_form import upload_of
from comms.kernel.database import Actor
from comms.kernel.storage.key_service import KeyService, WrappedKey
from comms.kernel.storage.object_store import Objects, StoredObject
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError, unavailable
from tests import factories
from tests.factories import wav

pytestmark = pytest.mark.anyio


class InterruptedKeys:
    """A key service that runs `happening` before it wraps a key."""

    def __init__(self, keys: KeyService, happening: Callable[[], Awaitable[None]]) -> None:
        self._keys = keys
        self._happening = happening

    async def wrap(self, key: bytes, context: str) -> WrappedKey:
        await self._happening()
        return await self._keys.wrap(key, context)

    async def unwrap(self, wrapped: WrappedKey, context: str) -> bytes:
        return await self._keys.unwrap(wrapped, context)


async def objects_of(ctx: AppContext, actor: Actor) -> set[str]:
    return {stored.key async for stored in ctx.objects.list_under(str(actor.tenant_id))}


async def recordings_of(ctx: AppContext, actor: Actor) -> list[str]:
    return [str(row["status"]) for row in await factories.rows(ctx, actor, "select status from recordings")]


async def store_upload(
    ctx: AppContext, actor: Actor, session_id: UUID, *files: bytes, participants: tuple[UUID, ...] = ()
) -> None:
    upload = await upload_of(tuple(io.BytesIO(file) for file in files), participants)
    await ingestion.store_upload(ctx, actor, session_id, upload)


async def test_consent_withdrawn_while_it_is_being_stored_stops_it(ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)

    async def change_of_mind() -> None:
        await factories.withdraw(ctx, manager, resident, "record")

    interrupted = replace(ctx, keys=InterruptedKeys(ctx.keys, change_of_mind))
    with pytest.raises(WriteCareError) as refusal:
        await store_upload(interrupted, manager, session_id, wav())
    assert refusal.value.slug == "consent-missing"
    assert (await objects_of(ctx, manager), await recordings_of(ctx, manager)) == (set(), [])


async def test_a_session_cancelled_meanwhile_takes_nothing(ctx: AppContext) -> None:
    manager, _, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, session_type="meeting")

    async def cancel() -> None:
        await factories.rows(
            ctx,
            manager,
            "update communication_sessions set status = 'cancelled' where id = %s returning id",
            session_id,
        )

    interrupted = replace(ctx, keys=InterruptedKeys(ctx.keys, cancel))
    with pytest.raises(WriteCareError) as refusal:
        await store_upload(interrupted, manager, session_id, wav())
    assert refusal.value.slug == "session-status"
    assert (await objects_of(ctx, manager), await recordings_of(ctx, manager)) == (set(), [])


async def test_a_key_service_that_fails_at_the_second_track_leaves_not_even_the_first(ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    calls = 0

    async def fail_at_second() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise unavailable("key-service-down", "The key service does not answer.")

    interrupted = replace(ctx, keys=InterruptedKeys(ctx.keys, fail_at_second))
    with pytest.raises(WriteCareError) as refusal:
        await store_upload(
            interrupted, manager, session_id, wav(), wav(), participants=(manager.user_id, resident.user_id)
        )
    assert refusal.value.kind == Kind.UNAVAILABLE
    assert calls == 2
    assert (await objects_of(ctx, manager), await recordings_of(ctx, manager)) == (set(), [])


async def test_a_recording_longer_than_the_limit_is_refused(ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    strict = replace(ctx, settings=ctx.settings.model_copy(update={"max_recording_seconds": 2.0}))
    with pytest.raises(WriteCareError) as refusal:
        await store_upload(strict, manager, session_id, wav(3.0))
    assert (refusal.value.kind, refusal.value.slug) == (Kind.TOO_LARGE, "audio-too-long")
    assert (await objects_of(ctx, manager), await recordings_of(ctx, manager)) == (set(), [])
    await store_upload(strict, manager, session_id, wav(1.0))


async def test_the_sweep_removes_what_no_key_opens_and_nothing_else(ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    kept = await factories.store_recording(ctx, manager, session_id)
    erased = await factories.store_recording(ctx, manager, session_id)
    folder = ctx.settings.data_dir / "recordings" / str(manager.tenant_id)
    orphan = folder / str(erased.id) / "019f0000-0000-7000-8000-000000000000.sealed"
    orphan.write_bytes(b"ciphertext that a crash left")
    half = folder / str(erased.id) / "019f0000-0000-7000-8000-000000000001.sealed#1"
    half.write_bytes(b"ciph")
    lead = await factories.make_user(ctx, manager.tenant_id, "safeguarding_lead")
    async with ctx.database.acting_as(lead) as conn:
        await shred(conn, lead, erased.id)
    before = await objects_of(ctx, manager)
    assert await sweep(ctx, timedelta(hours=1)) == 0
    assert await objects_of(ctx, manager) == before
    assert half.exists()
    await sweep(ctx, timedelta(0))
    assert await objects_of(ctx, manager) == {f"{manager.tenant_id}/{kept.id}/{kept.tracks[0].id}.sealed"}
    assert not half.exists()


async def test_the_sweep_leaves_what_belongs_to_tenants_of_another_database(ctx: AppContext) -> None:
    recordings = ctx.settings.data_dir / "recordings"
    theirs = recordings / str(uuid.uuid4()) / str(uuid.uuid4()) / f"{uuid.uuid4()}.sealed"
    theirs.parent.mkdir(parents=True)
    half = theirs.with_name(f"{uuid.uuid4()}.sealed#1")
    for file in (theirs, half):
        file.write_bytes(b"what only the other database can open")
    await sweep(ctx, timedelta(0))
    assert theirs.exists()
    assert half.exists()


class BrokenObjects(Objects):
    """An object store whose disk fails; `asked` counts the calls."""

    asked = 0

    async def list_under(self, folder: str) -> AsyncIterator[StoredObject]:
        self.asked += 1
        raise PermissionError("the disk was taken away")
        yield  # makes it an async iterator


async def test_sweeping_goes_on_when_the_disk_fails(ctx: AppContext, tmp_path: Path) -> None:
    await factories.make_tenant(ctx)
    broken = BrokenObjects(LocalStore(tmp_path))
    sweeping = asyncio.create_task(sweep_forever(replace(ctx, objects=broken), timedelta(0)))
    async with asyncio.timeout(20):
        while broken.asked < 3:
            assert not sweeping.done()
            await asyncio.sleep(0.01)
    sweeping.cancel()


async def test_a_parked_recording_is_read_again_when_asked(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    worker = Actor(manager.tenant_id, manager.user_id, "service")
    async with ctx.database.acting_as(manager) as conn:
        with pytest.raises(WriteCareError) as refusal:
            await requeue(conn, manager, recording.id)
    assert refusal.value.slug == "recording-not-parked"
    async with worker_ctx.database.acting_as(worker) as conn:
        await park(conn, worker, recording.id, "consent-missing")
    async with ctx.database.acting_as(manager) as conn:
        assert (await lock_recording(conn, recording.id)).parked_reason == "consent-missing"
        again = await requeue(conn, manager, recording.id)
    assert (again.status, again.parked_reason, again.version) == ("processing", None, 3)
    async with worker_ctx.database.acting_as(worker) as conn:
        await mark_ready(conn, worker, recording.id)
        await park(conn, worker, recording.id, "too-late")
    told = await factories.rows(
        ctx, manager, "select type from events where aggregate_id = %s order by aggregate_version", recording.id
    )
    assert [event["type"] for event in told] == [
        "session.recording.stopped", "session.recording.stopped", "recording.processed",
    ]  # fmt: skip
    assert await recordings_of(ctx, manager) == ["ready"]


async def test_what_was_deleted_meanwhile_does_not_become_ready(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    lead = await factories.make_user(ctx, manager.tenant_id, "safeguarding_lead")
    async with ctx.database.acting_as(lead) as conn:
        await shred(conn, lead, recording.id)
    worker = Actor(manager.tenant_id, manager.user_id, "service")
    async with worker_ctx.database.acting_as(worker) as conn:
        await park(conn, worker, recording.id, "audio-unreadable")
        with pytest.raises(WriteCareError) as refusal:
            await mark_ready(conn, worker, recording.id)
    assert refusal.value.slug == "recording-not-processing"
    assert await recordings_of(ctx, manager) == ["deleted"]
