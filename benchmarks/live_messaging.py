"""Measures a message's delivery to open sockets: one large conversation, many tenants, and a client that never reads.

    ./writecare bench live_messaging

Uses one API process, one relay and one PostgreSQL, as `up` starts them, without models. A message is sent with the
functions of `comms` and timed from before its transaction until it arrives at each socket of that API. The baselines of
`live_delivery` alternate with it, so that a busy machine slows all. Three measurements:

(500)    One conversation of 500 people with one socket each: p99 over the bare commit and round trip of one client
         (goal 2), and over the commit and a bare server's broadcast to 500.
(1,000)  Fifty tenants with a conversation of 20 people each, one message a second in each, fifty a second in all: p99
         (goal: under 500 ms), and over the commit and round trip of one client.
(asleep) The 500 again, together with a client whose socket is full and never read: p99 of the others with that client
         over without it (goal 1.1), round by round.
"""

import asyncio
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import psycopg
import uuid_utils.compat as uuid_utils
from psycopg.types.json import Jsonb

from benchmarks.live_delivery import (
    IN_A_ROUND,
    PING,
    PONG,
    ROUNDS,
    SOCKETS,
    EventWriter,
    SocketClients,
    WriteAction,
    client_frame,
    commit_seconds,
    measure,
    open_websocket,
    percentile,
    print_ratios,
    relay_and_broadcaster,
)
from benchmarks.message_post import WORDS
from benchmarks.session_post import running_api
from comms.kernel.database import Actor, Database
from comms.messaging.message_records import NewMessage
from comms.messaging.messages.queries import send_message
from instance.launcher import free_port
from instance.provisioning import Databases

TENANTS = 50
PEOPLE_A_TENANT = 20
PAUSE_SECONDS = 1 / TENANTS
FULL = 400  # events that fill the buffers between the server and a client that reads nothing
BenchConversation = tuple[list[Actor], str]


def create_conversation(databases: Databases, slug: str, people: int) -> BenchConversation:
    """Creates a tenant with so many people in one conversation."""
    conversation_id = uuid_utils.uuid7()
    with psycopg.connect(databases.administrator) as admin:
        tenant = admin.execute("insert into tenants (slug, name) values (%s, %s) returning id", (slug, slug)).fetchone()
        assert tenant is not None
        [tenant_id] = tenant
        users = admin.execute(
            "insert into users (tenant_id, slug, display_name, role) "
            "select %s, 'u' || n, 'u', 'care_worker' from generate_series(1, %s) n returning id",
            (tenant_id, people),
        ).fetchall()
        ids = [user_id for (user_id,) in users]
        admin.execute("select set_config('app.tenant_id', %s, true)", (str(tenant_id),))
        admin.execute(
            "insert into conversations (tenant_id, id, conversation_type, created_by, moment) "
            "values (%s, %s, 'group', %s, %s)",
            (tenant_id, conversation_id, ids[0], conversation_id),
        )
        admin.execute(
            "insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id) "
            "select %s, %s, unnest(%s::uuid[]), %s, %s",
            (tenant_id, conversation_id, ids[1:], ids[0], conversation_id),
        )
    return [Actor(tenant_id, user_id, "care_worker") for user_id in ids], str(conversation_id)


def message(talk: BenchConversation) -> WriteAction:
    """Returns an action that sends a message to the conversation."""
    people, conversation = talk
    new = NewMessage.model_validate({"conversation_id": conversation, "content": WORDS})

    async def send(database: Database) -> None:
        async with database.acting_as(people[0]) as conn:
            await send_message(conn, people[0], new)

    return send


def paths(writer: EventWriter) -> list[str]:
    """The URL paths of the listeners' sockets."""
    return [f"/ws/messaging?ticket={ticket}" for ticket in writer.tickets]


def measure_many_tenants(
    ours: SocketClients,
    single: SocketClients,
    writer: EventWriter,
    actions: Sequence[WriteAction],
    commit: Callable[[], float],
) -> dict[str, float]:
    """One round: a paced message in each tenant, and as many commits and round trips of one client."""
    began: list[float] = []

    async def send_all(database: Database) -> None:
        sending: list[asyncio.Task[None]] = []
        for action in actions:
            began.append(time.perf_counter())
            sending.append(asyncio.create_task(action(database)))
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.gather(*sending)

    writer.write(send_all)
    ways = [
        arrival - began[place // PEOPLE_A_TENANT]
        for place, arrival in ours.arrivals_by_client(TENANTS * PEOPLE_A_TENANT)
    ]
    one = []
    for _ in actions:
        committed = commit()
        sent = time.perf_counter()
        single.first().send(client_frame(PING, b"here"))
        one.append(committed + single.arrivals(1, PONG)[0] - sent)
    return {"message": percentile(ways, 0.99), "one": percentile(one, 0.99)}


def fill_socket(databases: Databases, stalled_user: Actor) -> None:
    """Inserts enough events for one user that the send buffer of a never-read socket is full."""
    conversation_id, moment = uuid_utils.uuid7(), uuid_utils.uuid7()
    with psycopg.connect(databases.administrator) as admin:
        admin.execute("select set_config('app.tenant_id', %s, true)", (str(stalled_user.tenant_id),))
        admin.execute(
            "insert into conversations (tenant_id, id, conversation_type, created_by, moment) "
            "values (%s, %s, 'group', %s, %s)",
            (stalled_user.tenant_id, conversation_id, stalled_user.user_id, conversation_id),
        )
        data = {"conversation_id": str(conversation_id), "message_id": str(moment), "moment": str(moment)}
        admin.execute(
            "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
            "select %s, 'message.sent', 'conversation', %s, n, %s from generate_series(1, %s) n",
            (stalled_user.tenant_id, conversation_id, Jsonb(data), FULL),
        )


def open_stalled_socket(port: int, ticket: str) -> socket.socket:
    """A socket with a tiny receive buffer that is never read."""
    client_socket = open_websocket(port, f"/ws/messaging?ticket={ticket}", receive_buffer=4096)
    client_socket.setblocking(False)
    return client_socket


def p99_of_round(ours: SocketClients, writer: EventWriter, action: WriteAction) -> float:
    """The p99 of a round of messages to all clients."""
    ways: list[float] = []
    for _ in range(IN_A_ROUND):
        began = writer.write(action)
        ways += [arrival - began for arrival in ours.arrivals(SOCKETS)]
    return percentile(ways, 0.99)


def measure_with_stalled_client(
    databases: Databases, port: int, ours: SocketClients, writer: EventWriter, talk: BenchConversation
) -> None:
    """Alternating rounds with and without a stalled client. `writer` has one ticket left for each stalled client."""
    people, _ = talk
    action, ratios, found = message(talk), [], []
    for ticket in writer.tickets[SOCKETS:]:
        without = p99_of_round(ours, writer, action)
        with open_stalled_socket(port, ticket):
            fill_socket(databases, people[SOCKETS])
            time.sleep(1)
            beside = p99_of_round(ours, writer, action)
        time.sleep(0.5)
        found.append((without, beside))
        ratios.append(beside / without)
    for name, place in (("without", 0), ("beside", 1)):
        print(f"{name:7} p99 {statistics.median(pair[place] for pair in found) * 1e3:7.2f} ms")
    print(f"beside / without {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def one_conversation(databases: Databases, port: int, bare_port: int, commit: Callable[[], float]) -> None:
    """Measurements (500) and (asleep)."""
    talk = create_conversation(databases, "large", SOCKETS + 1)
    people, _ = talk
    writer = EventWriter(databases.app, [*people[:SOCKETS], *[people[SOCKETS]] * ROUNDS])
    try:
        ours = SocketClients(port, paths(writer)[:SOCKETS])
        bare, single = SocketClients(bare_port, ["/"] * SOCKETS), SocketClients(bare_port, ["/"])
        action = message(talk)
        rounds = [measure(ours, bare, single, lambda: writer.write(action), commit) for _ in range(ROUNDS + 1)][1:]
        for crowd in (bare, single):
            crowd.close()
        print("one conversation, 500 sockets")
        print_ratios([{"message": found.pop("ours"), **found} for found in rounds], "message")
        print("beside a socket that is full and never read")
        measure_with_stalled_client(databases, port, ours, writer, talk)
        ours.close()
    finally:
        writer.stop()


def many_tenants(databases: Databases, port: int, bare_port: int, commit: Callable[[], float]) -> None:
    """Measurement (1,000)."""
    talks = [create_conversation(databases, f"tenant-{number}", PEOPLE_A_TENANT) for number in range(TENANTS)]
    writer = EventWriter(databases.app, [person for people, _ in talks for person in people])
    try:
        ours, single = SocketClients(port, paths(writer)), SocketClients(bare_port, ["/"])
        actions = [message(talk) for talk in talks]
        rounds = [measure_many_tenants(ours, single, writer, actions, commit) for _ in range(ROUNDS + 1)][1:]
        for crowd in (ours, single):
            crowd.close()
    finally:
        writer.stop()
    print("fifty tenants, 1,000 sockets, fifty messages a second")
    for name in ("message", "one"):
        print(f"{name:7} p99 {statistics.median(found[name] for found in rounds) * 1e3:7.2f} ms")
    ratios = [found["message"] / found["one"] for found in rounds]
    print(f"message / one {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # one file descriptor per socket, here and in the API
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    bare_port = free_port()
    with (
        running_api() as (databases, port, actor, _),
        psycopg.connect(databases.app, autocommit=True) as conn,
        relay_and_broadcaster(databases, bare_port),
    ):
        time.sleep(2)
        one_conversation(databases, port, bare_port, lambda: commit_seconds(conn, actor))
        many_tenants(databases, port, bare_port, lambda: commit_seconds(conn, actor))
    return 0


if __name__ == "__main__":
    sys.exit(main())
