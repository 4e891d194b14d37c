"""`DecoderPool`: a fair share per tenant, separate slots for recordings and attachments, and a limited wait."""

import asyncio
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from comms.app.application import create_app
from comms.kernel.database import Actor
from comms.kernel.decoder_slots import DecoderPool
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms.api_processes import api_process
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug
from tests.models.confinement.test_process import attacked, results_of

pytestmark = pytest.mark.anyio

A, B, C = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
LONG = 60.0


class Work:
    """Work that begins, and ends when the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(LONG)
        return "done"


@contextmanager
def opened(slots: int, wait_seconds: float = LONG) -> Iterator[DecoderPool]:
    decoders = DecoderPool(slots, wait_seconds)
    yield decoders
    decoders.close()


async def begun(work: Work) -> None:
    assert await asyncio.to_thread(work.begun.wait, LONG)


async def test_a_tenant_that_floods_leaves_another_a_place() -> None:
    with opened(3) as decoders:
        flood = [Work() for _ in range(10)]
        waiting = [asyncio.create_task(decoders.run(A, work)) for work in flood]
        await begun(flood[0])
        await begun(flood[1])
        assert await decoders.run(B, lambda: "taken") == "taken"
        assert [work.begun.is_set() for work in flood] == [True, True, *[False] * 8]
        for work in flood:
            work.let_go.set()
        assert await asyncio.gather(*waiting) == ["done"] * 10


async def test_who_holds_fewest_places_is_next_and_then_who_came_first() -> None:
    with opened(3) as decoders:
        first, second, third = Work(), Work(), Work()
        holding = [
            asyncio.create_task(decoders.run(tenant, work)) for tenant, work in ((A, first), (A, second), (B, third))
        ]
        for work in (first, second, third):
            await begun(work)
        order: list[str] = []
        later = [
            asyncio.create_task(decoders.run(tenant, lambda name=name: order.append(name)))  # type: ignore[misc]
            for tenant, name in ((A, "A again"), (B, "B again"), (C, "C"), (C, "C again"))
        ]
        await asyncio.sleep(0)
        third.let_go.set()  # one free slot: they use it one after the other
        await asyncio.gather(*later[1:])
        assert order[0] in ("B again", "C")
        assert "A again" not in order[:1]
        first.let_go.set()
        second.let_go.set()
        await asyncio.gather(*holding, *later)


async def test_who_waits_too_long_is_asked_to_come_back() -> None:
    with opened(2, wait_seconds=0.2) as decoders:
        work = Work()
        holding = asyncio.create_task(decoders.run(A, work))
        await begun(work)
        with pytest.raises(WriteCareError) as busy:
            await decoders.run(A, lambda: None)
        assert (busy.value.kind, busy.value.slug, busy.value.retry_after_seconds) == (
            Kind.UNAVAILABLE, "decoders-busy", 1,
        )  # fmt: skip
        work.let_go.set()
        assert await holding == "done"
        assert await decoders.run(A, lambda: "taken") == "taken"


async def test_a_place_is_free_only_when_the_work_has_ended_though_its_caller_has_gone() -> None:
    with opened(2) as decoders:
        work = Work()
        gone = asyncio.create_task(decoders.run(A, work))
        await begun(work)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        next_work = Work()
        waiting = asyncio.create_task(decoders.run(A, next_work))
        await decoders.run(B, lambda: None)  # every task has run by now
        assert not next_work.begun.is_set()
        work.let_go.set()
        next_work.let_go.set()
        assert await waiting == "done"


async def test_who_goes_away_while_waiting_takes_no_place() -> None:
    with opened(2) as decoders:
        work = Work()
        holding = asyncio.create_task(decoders.run(A, work))
        await begun(work)
        gone = [asyncio.create_task(decoders.run(A, lambda: None)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        work.let_go.set()
        assert await holding == "done"
        assert await asyncio.gather(*gone, return_exceptions=True)
        assert await asyncio.gather(*(decoders.run(A, lambda: "taken") for _ in range(3))) == ["taken"] * 3


async def test_work_that_fails_frees_its_place() -> None:
    def fail() -> None:
        raise ValueError

    with opened(2) as decoders:
        for _ in range(5):
            with pytest.raises(ValueError):  # noqa: PT011 - it is the one above
                await decoders.run(A, fail)


# --- uploads ---------------------------------------------------------------------------------------------------------

NOTE = b"Ada fell at nine."


def slow_recording() -> bytes:
    """Twenty minutes of sound: one second, repeated."""
    return factories.encoded("adts", "aac") * 1_200


async def send_recording(
    caller: httpx.AsyncClient, ctx: AppContext, call: tuple[Actor, uuid.UUID], file: bytes
) -> httpx.Response:
    manager, session_id = call
    return await caller.post(
        "/api/recordings", params={"session_id": str(session_id)}, files={"file": ("call.aac", file)},
        headers=factories.bearer(ctx, manager), timeout=300,
    )  # fmt: skip


async def send_note(caller: httpx.AsyncClient, ctx: AppContext, manager: Actor) -> httpx.Response:
    talk = MessagingClient(caller, ctx)
    path = await talk.begin(manager, await talk.person(manager))
    return await caller.post(
        "/api/messages/attachments", params={"conversation_id": path.rpartition("/")[2]},
        files={"file": ("note.txt", NOTE)}, headers=factories.bearer(ctx, manager), timeout=300,
    )  # fmt: skip


async def a_call(ctx: AppContext) -> tuple[Actor, uuid.UUID]:
    manager, _, session_id = await factories.make_call(ctx)
    return manager, session_id


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, AppContext]]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as caller:
            yield caller, app.state.ctx


async def test_while_a_tenant_floods_another_is_served_and_attachments_go_on(settings: Settings) -> None:
    few = settings.model_copy(update={"recording_decoders": 2, "decoder_wait_seconds": 300.0})
    async with serving(few) as (caller, ctx):
        flooding, other = await a_call(ctx), await a_call(ctx)
        file = slow_recording()
        flood = [asyncio.create_task(send_recording(caller, ctx, flooding, file)) for _ in range(6)]
        try:
            await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)  # one request holds a slot, and five wait
            assert (await send_recording(caller, ctx, other, factories.wav())).status_code == 201
            assert (await send_note(caller, ctx, flooding[0])).status_code == 201
            assert not all(sent.done() for sent in flood)
        finally:
            for sent in flood:
                sent.cancel()
            await asyncio.gather(*flood, return_exceptions=True)


async def test_a_place_that_does_not_come_free_is_503_with_when_to_try_again(settings: Settings) -> None:
    few = settings.model_copy(update={"recording_decoders": 2, "decoder_wait_seconds": 0.1})
    async with serving(few) as (caller, ctx):
        call, file = await a_call(ctx), slow_recording()
        answers = await asyncio.gather(*(send_recording(caller, ctx, call, file) for _ in range(3)))
        busy = [answer for answer in answers if answer.status_code == 503]
        assert busy
        for answer in busy:
            assert (status_and_slug(answer), answer.headers["retry-after"]) == ((503, "decoders-busy"), "1")


async def test_a_child_that_was_taken_over_does_not_reach_postgresql(databases: Databases, tmp_path: Path) -> None:
    server = conninfo_to_dict(databases.app)
    path = f"{server['host']}/.s.PGSQL.{server['port']}"
    with socket.socket(socket.AF_UNIX) as reached:
        reached.connect(path)  # the socket can be reached from this process
    with attacked(tmp_path) as slots:
        results = await asyncio.to_thread(results_of, replace(slots, unix_socket=path), b"a file from outside")
    assert results["connect to a socket with a path"] == "EPERM"


# --- a kernel that cannot confine ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "taken", "health"),
    [("false", (503, "decoding-unconfined"), (503, "down")), ("true", 201, (200, "degraded"))],
)
async def test_where_the_kernel_refuses_to_confine_uploads_are_refused_unless_that_is_allowed(
    ctx: AppContext, databases: Databases, allowed: str, taken: object, health: tuple[int, str]
) -> None:
    refused = ("seccomp", "landlock", "unshare", "chroot")
    setting = {"WRITECARE_ALLOW_UNCONFINED_DECODING": allowed}
    call = await a_call(ctx)
    async with (
        api_process(ctx, databases, refused, **setting) as api,
        httpx.AsyncClient(base_url=f"http://{api.address}", trust_env=False, timeout=300) as caller,
    ):
        for answer in (
            await send_recording(caller, ctx, call, factories.wav()), await send_note(caller, ctx, call[0])
        ):  # fmt: skip
            assert (answer.status_code if answer.is_success else status_and_slug(answer)) == taken
            assert answer.is_success or answer.headers["retry-after"] == "600"
        told_health = await caller.get("/health/detailed", headers=factories.operator(ctx))
        assert (told_health.status_code, told_health.json()["status"]) == health
        assert told_health.json()["confinement"]["processes"] is False
    if taken != 201:
        assert await factories.rows(ctx, call[0], "select 1 from recordings") == []
