"""The socket of a session: all its events, presence, disconnections, and bad clients that can harm no other client."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from comms.calls.sessions.participants import ParticipantChange, add_participant, change_participant, remove_participant
from comms.calls.sessions.queries import NewParticipant, SessionChange, change_session, end_session
from comms.identity.sign_ins.queries import end_sign_in
from comms.kernel.database import Actor
from comms.outbox.queries import EventType, emit
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.api_processes import api_process
from tests.comms.http_server import served
from tests.comms.live.test_websockets import opened, receive, refusal, ticket_for

pytestmark = pytest.mark.anyio

PREFIX = "communication.writecarenotes.com."


@pytest.fixture(scope="module")
async def address(app: FastAPI, databases: Databases) -> AsyncIterator[str]:
    """The application on a port, with a running relay."""
    async with served(app) as where, outbox_helpers.relaying(databases):
        yield where


async def said(socket: ClientConnection) -> dict[str, Any]:
    """Returns the next message of any kind."""
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def second_event(socket: ClientConnection) -> dict[str, Any]:
    """Skips `session.created`, which the socket may or may not receive, and returns the next event."""
    while (event := await receive(socket))["version"] == 1:
        pass
    return event


async def presence(socket: ClientConnection) -> dict[str, Any]:
    """Returns the next presence message."""
    while not (message := await said(socket))["type"].startswith("presence"):
        pass
    return message


async def on(address: str, ctx: AppContext, actor: Actor, session_id: uuid.UUID, **more: Any) -> connect:
    """Returns a connection to the socket of the session, not yet opened."""
    return opened(address, await ticket_for(ctx, actor), path=f"sessions/{session_id}", **more)


async def make_session(ctx: AppContext) -> tuple[Actor, Actor, uuid.UUID]:
    """Creates a carer, a resident and their call, which has not begun."""
    carer = await factories.make_actor(ctx, "care_worker")
    resident = await factories.make_user(ctx, carer.tenant_id, "resident")
    session_id = await factories.make_session(ctx, carer, carer, resident, session_type="video_call")
    return carer, resident, session_id


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Returns the code and reason with which the server closes the socket."""
    async for _ in read_to_the_end(socket):
        pass
    return socket.close_code, socket.close_reason


def cut_off(ctx: AppContext, reason: str) -> float:
    """Returns how many sockets the server has closed for this reason so far."""
    return ctx.metrics.registry.get_sample_value("writecare_sockets_cut_off_total", {"reason": reason}) or 0.0


async def read_to_the_end(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def talk(socket: ClientConnection) -> None:
    while True:
        await socket.send("hello?")


async def write(ctx: AppContext, actor: Actor, session_id: uuid.UUID, *versions: int) -> None:
    async with ctx.database.acting_as(actor) as conn:
        for version in versions:
            data = {"session_id": str(session_id)}
            of = ("session", session_id)
            await emit(conn, actor, "session.participant.joined", aggregate=of, version=version, data=data)


# --- every event ---------------------------------------------------------------------------------------------------


async def test_the_whole_course_of_a_session_is_told_in_order(address: str, ctx: AppContext) -> None:
    carer, resident, session_id = await make_session(ctx)
    guest = await factories.make_user(ctx, carer.tenant_id, "external")
    recording = uuid.uuid4()
    recorded: tuple[EventType, ...] = (
        "session.recording.started", "session.recording.stopped", "transcript.ready", "recording.processed",
    )  # fmt: skip
    async with await on(address, ctx, resident, session_id, after=0) as socket:
        async with ctx.database.acting_as(carer) as conn:
            await change_session(conn, carer, session_id, SessionChange(status="active"))
            newcomer = NewParticipant(user_id=guest.user_id, participant_type="family")
            await add_participant(conn, carer, session_id, newcomer)
            await change_participant(conn, carer, session_id, guest.user_id, ParticipantChange(joined=False))
        for version, type in enumerate(recorded, 1):
            data = {"recording_id": str(recording), "session_id": str(session_id)}
            await outbox_helpers.write(ctx, carer, (type, recording, version, data))
        async with ctx.database.acting_as(carer) as conn:
            await end_session(conn, carer, session_id)
        events = [await receive(socket) for _ in range(9)]
    assert [event["type"].removeprefix(PREFIX) for event in events] == [
        "session.created", "session.started", "session.participant.joined", "session.participant.left",
        *recorded, "session.ended",
    ]  # fmt: skip
    assert [event["position"] for event in events] == sorted({event["position"] for event in events})


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(drops=st.lists(st.integers(0, 6), max_size=6), batches=st.lists(st.integers(1, 5), min_size=1, max_size=5))
async def test_however_often_a_client_drops_it_is_told_of_everything_once(
    address: str, ctx: AppContext, drops: list[int], batches: list[int]
) -> None:
    carer, _, session_id = await make_session(ctx)

    async def write_all() -> None:
        version = 100
        for size in batches:
            await write(ctx, carer, session_id, *range(version, version + size))
            version += size

    writing = asyncio.create_task(write_all())
    events: list[dict[str, Any]] = []
    for patience in [*drops, 10_000]:
        after = events[-1]["position"] if events else 0
        async with await on(address, ctx, carer, session_id, after=after) as socket:
            for _ in range(min(patience, sum(batches) + 1 - len(events))):
                events.append(await receive(socket))  # noqa: PERF401 (events before a disconnection count)
    await writing
    assert [event["version"] for event in events] == [1, *range(100, 100 + sum(batches))]


# --- who is connected ------------------------------------------------------------------------------------------------


async def test_who_connects_is_told_who_is_there_and_the_others_that_they_came_and_went(
    address: str, ctx: AppContext
) -> None:
    carer, resident, session_id = await make_session(ctx)
    async with await on(address, ctx, carer, session_id) as first:
        assert await presence(first) == {
            "type": "presence", "session_id": str(session_id), "present": [str(carer.user_id)],
        }  # fmt: skip
        async with await on(address, ctx, resident, session_id) as second:
            assert (await presence(second))["present"] == sorted([str(carer.user_id), str(resident.user_id)])
            came = await presence(first)
            assert (came["type"], came["user_id"]) == ("presence.joined", str(resident.user_id))
        went = await presence(first)
        assert (went["type"], went["user_id"]) == ("presence.left", str(resident.user_id))


async def test_somebody_with_two_tabs_is_there_once_until_both_are_closed(address: str, ctx: AppContext) -> None:
    carer, resident, session_id = await make_session(ctx)
    third = await factories.make_user(ctx, carer.tenant_id, "care_worker")
    async with await on(address, ctx, carer, session_id) as watching:
        await presence(watching)
        async with await on(address, ctx, resident, session_id):
            assert (await presence(watching))["type"] == "presence.joined"
            async with await on(address, ctx, resident, session_id) as tab:
                assert len((await presence(tab))["present"]) == 2
            async with await on(address, ctx, third, session_id):
                assert (await presence(watching))["user_id"] == str(third.user_id)  # neither tab caused a message
            assert (await presence(watching))["user_id"] == str(third.user_id)
        assert await presence(watching) == {
            "type": "presence.left", "session_id": str(session_id), "user_id": str(resident.user_id),
        }  # fmt: skip


async def test_as_somebody_on_another_session_hears_of_nobody(address: str, ctx: AppContext) -> None:
    carer, resident, session_id = await make_session(ctx)
    elsewhere = await factories.make_session(ctx, carer, carer, session_type="meeting")
    async with await on(address, ctx, carer, elsewhere) as socket:
        assert (await presence(socket))["present"] == [str(carer.user_id)]
        async with await on(address, ctx, resident, session_id) as other:
            await presence(other)
            await write(ctx, carer, elsewhere, 50)
            while (message := await said(socket)).get("version") == 1:
                pass
            assert message["version"] == 50


async def test_two_processes_tell_the_same_events_and_know_of_each_others_people_even_after_one_is_killed(
    address: str, ctx: AppContext, databases: Databases
) -> None:
    carer, resident, session_id = await make_session(ctx)
    async with (
        api_process(ctx, databases) as one,
        api_process(ctx, databases) as other,
        await on(one.address, ctx, carer, session_id) as here,
    ):
        assert (await presence(here))["present"] == [str(carer.user_id)]
        async with await on(other.address, ctx, resident, session_id) as there:
            assert len((await presence(there))["present"]) == 2
            assert (await presence(here))["user_id"] == str(resident.user_id)
            await write(ctx, carer, session_id, 50, 51, 52)
            for each in (here, there):
                assert [(await second_event(each))["version"] for _ in range(3)] == [50, 51, 52]
            other.kill()
            left = await presence(here)
            assert (left["type"], left["user_id"]) == ("presence.left", str(resident.user_id))


# --- disconnected ---------------------------------------------------------------------------------------------------


async def test_a_sign_in_that_ends_takes_its_sockets_along_and_no_others(address: str, ctx: AppContext) -> None:
    carer, _, session_id = await make_session(ctx)
    ending, staying = await factories.signed_in(ctx, carer), await factories.signed_in(ctx, carer)
    async with (
        await on(address, ctx, ending, session_id) as cut,
        await on(address, ctx, staying, session_id) as kept,
    ):
        async with ctx.database.acting_as(ending) as conn:
            assert ending.sign_in_id is not None
            await end_sign_in(conn, ending, ending.user_id, ending.sign_in_id, "signed_out")
        assert await closed(cut) == (4401, "sign-in-ended")
        await write(ctx, carer, session_id, 50)
        assert (await second_event(kept))["version"] == 50


async def test_a_sign_in_that_ends_without_a_word_takes_its_sockets_along_too(
    address: str, ctx: AppContext, databases: Databases
) -> None:
    carer, _, session_id = await make_session(ctx)
    person = await factories.signed_in(ctx, carer)
    async with await on(address, ctx, person, session_id) as socket:
        await presence(socket)
        await outbox_helpers.query_as_admin(
            databases,
            "update sign_ins set expires_at = now() where id = %s returning 1", person.sign_in_id,
        )  # fmt: skip
        assert await closed(socket) == (4401, "sign-in-ended")


async def test_an_account_that_is_closed_takes_its_sockets_along(address: str, ctx: AppContext) -> None:
    carer, resident, session_id = await make_session(ctx)
    async with await on(address, ctx, resident, session_id) as socket:
        await factories.rows(ctx, carer, "update users set active = false where id = %s returning 1", resident.user_id)
        assert await closed(socket) == (4401, "sign-in-ended")


async def test_a_participant_who_is_removed_hears_no_more_and_cannot_come_back(address: str, ctx: AppContext) -> None:
    carer, resident, session_id = await make_session(ctx)
    async with await on(address, ctx, resident, session_id) as socket:
        async with ctx.database.acting_as(carer) as conn:
            await remove_participant(conn, carer, session_id, resident.user_id)
        assert await closed(socket) == (4404, "not-found")
    path = f"sessions/{session_id}"
    assert await refusal(address, await ticket_for(ctx, resident), path=path) == (404, "not-found")


# --- bad clients -----------------------------------------------------------------------------------------------------


async def test_a_client_that_talks_without_end_is_cut_off(address: str, ctx: AppContext) -> None:
    carer, _, session_id = await make_session(ctx)
    async with await on(address, ctx, carer, session_id) as socket:
        with pytest.raises(ConnectionClosedError):
            await talk(socket)
        assert (socket.close_code, socket.close_reason) == (1008, "nobody-listens")


async def test_a_client_that_says_little_is_borne_with(address: str, ctx: AppContext) -> None:
    carer, _, session_id = await make_session(ctx)
    async with await on(address, ctx, carer, session_id) as socket:
        for _ in range(10):
            await socket.send("heartbeat")
        await write(ctx, carer, session_id, 50)
        assert (await second_event(socket))["version"] == 50


async def test_a_message_that_is_too_long_is_refused_with_the_code_that_says_so(address: str, ctx: AppContext) -> None:
    carer, _, session_id = await make_session(ctx)
    async with await on(address, ctx, carer, session_id) as socket:
        await socket.send("x" * (1 << 17))
        assert (await closed(socket))[0] == 1009


async def test_a_message_too_long_in_parts_is_refused_too(address: str, ctx: AppContext) -> None:
    carer, _, session_id = await make_session(ctx)
    async with await on(address, ctx, carer, session_id) as socket:

        async def parts() -> AsyncIterator[str]:
            for _ in range(20):
                yield "x" * (1 << 13)

        with contextlib.suppress(ConnectionClosed):
            await socket.send(parts())
        assert (await closed(socket))[0] == 1009


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an unknown opcode
        (b"\x81\x05hello", 1002),  # without a mask
        (b"\xc1\x80\x00\x00\x00\x00", 1002),  # a reserved bit
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # a continuation without a first frame
        (b"\x81\x82\x00\x00\x00\x00\xff\xff", 1007),  # text that is not UTF-8
    ],
)
async def test_a_bad_frame_ends_its_own_socket_alone(address: str, ctx: AppContext, frame: bytes, code: int) -> None:
    carer, _, session_id = await make_session(ctx)
    async with (
        await on(address, ctx, carer, session_id) as bad,
        await on(address, ctx, carer, session_id) as good,
    ):
        bad.transport.write(frame)
        assert (await closed(bad))[0] == code
        await write(ctx, carer, session_id, 50)
        assert (await second_event(good))["version"] == 50


def narrow(address: str) -> socket.socket:
    """Returns a connection with a small receive buffer."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = address.split(":")
    line.connect((host, int(port)))
    return line


async def test_a_client_that_never_reads_is_cut_off_and_the_others_are_told_of_everything(
    app: FastAPI, address: str, ctx: AppContext
) -> None:
    carer, _, session_id = await make_session(ctx)
    async with (
        served(app, send_buffer_bytes=4096) as narrow_address,
        await on(narrow_address, ctx, carer, session_id, max_queue=1, sock=narrow(narrow_address)) as asleep,
        await on(address, ctx, carer, session_id) as awake,
    ):
        asleep.transport.pause_reading()
        start, batch = 100, 250
        cut_off_before = cut_off(ctx, "socket-too-slow")
        while cut_off(ctx, "socket-too-slow") == cut_off_before:  # until the buffers of both ends are full
            await write(ctx, carer, session_id, *range(start, start + batch))
            versions = [(await second_event(awake))["version"] for _ in range(batch)]
            assert versions == list(range(start, start + batch))
            start += batch
        asleep.transport.resume_reading()
        assert await closed(asleep) == (1013, "socket-too-slow")
