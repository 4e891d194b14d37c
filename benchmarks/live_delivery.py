"""Measures an event's delivery to 500 open sockets, compared with the minimum: a bare commit and a round trip.

    ./writecare bench live_delivery

Uses one API process, one relay and one PostgreSQL, as `up` starts them, without models. An event is written with the
functions of `comms` and timed from before its transaction until it arrives at each of 500 sockets of that API. Two
baselines alternate with it, so that a busy machine slows all: a row of that size committed with bare psycopg, plus a
WebSocket round trip on loopback, (one) with a single client and (all) with a bare `websockets` server that broadcasts
the same number of bytes to 500. Prints the p99 of each and the median of the rounds' ratios; the goal is 2 times (one).
"""

import asyncio
import base64
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.session_post import running_api
from comms.kernel.database import Actor, Database
from comms.live.tickets import make_ticket
from comms.outbox.notifier import Notifier, running_notifier
from comms.outbox.queries import OUTBOX_CHANNEL, emit
from instance.launcher import free_port
from instance.provisioning import Databases

SOCKETS: Final = 500
ROUNDS: Final = 9
IN_A_ROUND: Final = 20
TEXT: Final = 0x81
PING: Final = 0x89
PONG: Final = 0x8A


class SocketClients:
    """Many WebSocket clients that only record when a message arrives, so that they hardly load the machine."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._left: dict[int, bytes] = {}
        self._places: dict[int, int] = {}
        for place, path in enumerate(paths):
            client_socket = open_websocket(port, path)
            self._sockets[client_socket.fileno()] = client_socket
            self._places[client_socket.fileno()] = place
            self._left[client_socket.fileno()] = b""
            self._poll.register(client_socket.fileno(), select.EPOLLIN)

    def first(self) -> socket.socket:
        """The first client, for sending."""
        return next(iter(self._sockets.values()))

    def arrivals(self, wanted: int, kind: int = TEXT) -> list[float]:
        """The arrival times of `wanted` messages of that kind."""
        return [arrival for _, arrival in self.arrivals_by_client(wanted, kind)]

    def arrivals_by_client(self, wanted: int, kind: int = TEXT) -> list[tuple[int, float]]:
        """The index of the client and the arrival time, for `wanted` messages. Answers pings meanwhile."""
        found: list[tuple[int, float]] = []
        while len(found) < wanted:
            for number, _ in self._poll.poll(30):
                data = self._sockets[number].recv(65536)
                now = time.perf_counter()
                assert data, "the server closed the connection"
                for opcode, payload in self._frames(number, data):
                    if opcode == PING:
                        self._sockets[number].send(client_frame(PONG, payload))
                    elif opcode == kind:
                        found.append((self._places[number], now))
        return found

    def _frames(self, number: int, data: bytes) -> list[tuple[int, bytes]]:
        data, found = self._left[number] + data, []
        while len(data) >= 2:
            start, size = 2, data[1]
            if size == 126:
                start, size = 4, int.from_bytes(data[2:4])
            if len(data) < start + size:
                break
            found.append((data[0], data[start : start + size]))
            data = data[start + size :]
        self._left[number] = data
        return found

    def close(self) -> None:
        for client_socket in self._sockets.values():
            client_socket.close()


def open_websocket(port: int, path: str, receive_buffer: int | None = None) -> socket.socket:
    """Opens a WebSocket. With a small `receive_buffer` it accepts little data before it is read."""
    client_socket = socket.socket()
    if receive_buffer is not None:
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client_socket.connect(("127.0.0.1", port))
    client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    client_socket.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client_socket.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return client_socket


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, with the mask 0."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return bytes([opcode]) + size + bytes(4) + payload


WriteAction = Callable[[Database], Coroutine[None, None, None]]


class EventWriter:
    """Writes events with the code of `comms`, in a separate thread. `tickets` are one ticket per listener."""

    def __init__(self, url: str, listeners: Sequence[Actor]) -> None:
        self._url = url
        self._listeners = listeners
        self._loop = asyncio.new_event_loop()
        self.tickets: list[str] = []
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(ready),), daemon=True)
        self._thread.start()
        ready.wait()

    async def _run(self, ready: threading.Event) -> None:
        notifier = Notifier(OUTBOX_CHANNEL)
        self._database = Database(self._url, on_event_committed=notifier.notify)
        await self._database.open()
        async with running_notifier(notifier, self._database):
            for listener in self._listeners:
                async with self._database.acting_as(listener) as conn:
                    self.tickets.append((await make_ticket(conn, listener, 3600.0)).ticket)
            self._stopping = asyncio.Event()
            ready.set()
            await self._stopping.wait()
        await self._database.close()

    def write(self, action: WriteAction) -> float:
        """Starts the write and returns its start time at once."""
        began = time.perf_counter()
        asyncio.run_coroutine_threadsafe(action(self._database), self._loop)
        return began

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()


def alert_event(actor: Actor) -> WriteAction:
    """Writes an alert's event to the outbox."""

    async def write(database: Database) -> None:
        async with database.acting_as(actor) as conn:
            alert = await (await conn.execute("select uuidv7() as id")).fetchone()
            assert alert is not None
            data = {"alert_id": str(alert["id"]), "severity": "high"}
            await emit(conn, actor, "safeguarding.alert", aggregate=("alert", alert["id"]), version=1, data=data)

    return write


def bare_broadcaster(port: int) -> None:
    """The server of the baseline: it sends each message of a client to all clients."""
    others: set[ServerConnection] = set()

    async def hear(connection: ServerConnection) -> None:
        others.add(connection)
        async for message in connection:
            broadcast(others, message)

    async def run() -> None:
        async with serve(hear, "127.0.0.1", port, compression=None):
            await asyncio.get_running_loop().create_future()

    asyncio.run(run())


def commit_seconds(conn: psycopg.Connection, actor: Actor) -> float:
    """Seconds of a bare transaction that writes a row as long as an event (a row that the relay does not send)."""
    began = time.perf_counter()
    with conn.transaction():
        conn.execute("select set_config('app.tenant_id', %s, true)", (str(actor.tenant_id),))
        conn.execute(
            "insert into ws_tickets (tenant_id, user_id, role, secret_hash, expires_at) "
            "values (%s, %s, 'none', %s, now() - interval '1 day')",
            (actor.tenant_id, actor.user_id, bytes(200)),
        )
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile of the values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(
    ours: SocketClients,
    bare: SocketClients,
    single: SocketClients,
    write: Callable[[], float],
    commit: Callable[[], float],
) -> dict[str, float]:
    """One round: the p99 of each way in seconds. The ways alternate after every event."""
    message = client_frame(TEXT, json.dumps({"event": "x" * 400}).encode())
    found: dict[str, list[float]] = {"ours": [], "one": [], "all": []}
    for _ in range(IN_A_ROUND):
        began = write()
        found["ours"] += [arrival - began for arrival in ours.arrivals(SOCKETS)]
        committed = commit()
        began = time.perf_counter()
        single.first().send(client_frame(PING, b"here"))
        found["one"].append(committed + single.arrivals(1, PONG)[0] - began)
        committed = commit()
        began = time.perf_counter()
        bare.first().send(message)
        found["all"] += [committed + arrival - began for arrival in bare.arrivals(SOCKETS)]
    return {name: percentile(values, 0.99) for name, values in found.items()}


@contextmanager
def relay_and_broadcaster(databases: Databases, bare_port: int) -> Iterator[None]:
    """Runs a relay and the baseline's server until the block ends."""
    relay = subprocess.Popen(
        [sys.executable, "-m", "comms.outbox.relay"],
        env=os.environ | {"WRITECARE_ROLE_DATABASE_URL": databases.relay}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live_delivery", "broadcast", str(bare_port)], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        for process in (relay, server):
            process.kill()
            process.wait()


def print_ratios(rounds: Sequence[dict[str, float]], what: str) -> None:
    """Prints the p99 of each way and the ratios of `what` to the baselines."""
    for name in (what, "one", "all"):
        print(f"{name:7} p99 {statistics.median(found[name] for found in rounds) * 1e3:7.2f} ms")
    for name in ("one", "all"):
        ratios = [found[what] / found[name] for found in rounds]
        print(f"{what} / {name:4} {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> int:
    if sys.argv[1:2] == ["broadcast"]:
        bare_broadcaster(int(sys.argv[2]))
    bare_port = free_port()
    with running_api() as (databases, port, actor, _), psycopg.connect(databases.app, autocommit=True) as conn:
        lead = Actor(actor.tenant_id, actor.user_id, "safeguarding_lead")
        with relay_and_broadcaster(databases, bare_port):
            writer = EventWriter(databases.app, [lead] * SOCKETS)
            try:
                ours = SocketClients(port, [f"/ws/alerts?ticket={ticket}" for ticket in writer.tickets])
                time.sleep(2)
                bare = SocketClients(bare_port, ["/"] * SOCKETS)
                single = SocketClients(bare_port, ["/"])
                action = alert_event(lead)
                rounds = [
                    measure(ours, bare, single, lambda: writer.write(action), lambda: commit_seconds(conn, lead))
                    for _ in range(ROUNDS + 1)
                ][1:]  # the first was the warm-up
                for crowd in (ours, bare, single):
                    crowd.close()
            finally:
                writer.stop()
    print_ratios([{"event": found.pop("ours"), **found} for found in rounds], "event")
    return 0


if __name__ == "__main__":
    sys.exit(main())
