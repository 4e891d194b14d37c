"""Fifty clients exchange messages while sockets drop and processes are killed: no message may be lost, doubled or out
of order.

    python -m tests.journeys.kill_during_messaging 200000

Each client is in two conversations of five people. It sends over HTTP with an Idempotency-Key and repeats each request
until it is answered. It also listens on a messaging socket, which it drops at random times and opens again with its
cursor, at either of two API processes. Meanwhile the API processes and the relay are killed (SIGKILL).
"""

import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from comms.kernel.database import Actor
from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.messaging.conversations.members import make_conversation
from comms.messaging.conversations.queries import NewConversation
from comms.web.context import AppContext, open_app_context
from instance.embedded_postgres import EmbeddedPostgres
from instance.launcher import free_port
from instance.provisioning import Databases, provision
from tests import factories
from tests.journeys.kill_processes import RestartableProcess, seen

CLIENTS = 50
CONVERSATIONS = 20
_PAUSE_SECONDS = 0.05
_GIVEN_UP = 0.01  # share of requests in which the client disconnects before the answer
_PATIENCE_SECONDS = 1.0
_LAST_SECONDS = 300.0  # time in which all clients must receive the last message
_LONGEST_UNDROPPED = 400  # maximum number of events before the client drops the socket


@dataclass
class ReceivedEvents:
    """What one client received, in this order: the messages of each conversation, and all event positions."""

    messages: dict[str, list[str]]
    positions: list[int] = field(default_factory=list)
    connections: int = 0


@dataclass
class SentMessages:
    """What the senders were answered: the ids of acknowledged messages by content."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    asked_again: int = 0
    ends: set[str] = field(default_factory=set)  # the last message of each conversation


class Person:
    """A client that sends and listens, whatever happens to the network and the servers."""

    def __init__(self, name: int, ports: list[int], headers: dict[str, str], conversations: Iterable[str]) -> None:
        self.conversations = list(conversations)
        self.received = ReceivedEvents({conversation: [] for conversation in self.conversations})
        self._name = name
        self._chance = random.Random(name)
        self._ports = ports
        self._headers = headers
        self._http = httpx.AsyncClient(trust_env=False, timeout=20)

    async def write(self, how_many: int, post: SentMessages) -> None:
        """Sends this many messages, one after the other."""
        for number in range(how_many):
            await self.say(self._chance.choice(self.conversations), f"{self._name}/{number}", post)

    async def say(self, conversation: str, content: str, post: SentMessages) -> str:
        """Sends a message, again with the same key until it is answered; returns its id."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            patience = self._chance.random() * 0.02 if self._chance.random() < _GIVEN_UP else 20
            try:
                async with asyncio.timeout(patience):
                    body = {"conversation_id": conversation, "content": content}
                    answer = await self._ask("/api/messages", key, body)
                if answer.is_success:
                    post.acknowledged[content] = answer.json()["id"]
                    return post.acknowledged[content]
                waits = answer.status_code == 503 or answer.json()["type"].endswith("/request-in-progress")
                assert waits, answer.text
            except (httpx.TransportError, TimeoutError):
                pass
            post.asked_again += 1
            await asyncio.sleep(_PAUSE_SECONDS)

    async def listen(self, post: SentMessages) -> None:
        """Listens until the last message of each conversation has arrived; drops the socket without a close now and
        then.
        """
        while not self._heard_all(post):
            with suppress(httpx.TransportError, WebSocketException, OSError, KeyError):
                answer = await self._ask("/api/ws/tickets", {}, None)
                after = self.received.positions[-1] if self.received.positions else 0
                port = self._chance.choice(self._ports)
                url = f"ws://127.0.0.1:{port}/ws/messaging?ticket={answer.json()['ticket']}&after={after}"
                async with connect(url, proxy=None, compression=None, close_timeout=0.1) as socket:
                    self.received.connections += 1
                    for _ in range(self._chance.randint(1, _LONGEST_UNDROPPED)):
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_PATIENCE_SECONDS):
                                self._note(json.loads(await socket.recv()))
                        if self._heard_all(post):
                            return
                    socket.transport.abort()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()

    def _heard_all(self, post: SentMessages) -> bool:
        return all(set(received[-1:]) & post.ends for received in self.received.messages.values())

    def _note(self, event: dict[str, Any]) -> None:
        self.received.positions.append(event["position"])
        if event["type"].endswith(".message.sent"):
            conversation, message = event["data"]["conversation_id"], event["data"]["message_id"]
            self.received.messages[conversation].append(message)

    async def _ask(self, path: str, more: dict[str, str], body: Any) -> httpx.Response:
        address = f"http://127.0.0.1:{self._chance.choice(self._ports)}{path}"
        return await self._http.post(address, headers=self._headers | more, json=body)


async def run_messaging_with_kills(
    ctx: AppContext, databases: Databases, messages: int, kills: int
) -> tuple[Actor, list[Person], SentMessages]:
    """Runs the test until all clients have received the last messages. Returns the manager, the clients and the sent
    messages.
    """
    manager, people = await _people(ctx)
    conversations = await _conversations(ctx, manager, people)
    ports = [free_port(), free_port()]
    shared = {"WRITECARE_DATA_DIR": str(ctx.settings.data_dir)}
    doors = {"WRITECARE_ROLE_DATABASE_URL": databases.app}
    killable = [
        RestartableProcess("comms.app.server", shared | doors | {"WRITECARE_PORT": str(port)}) for port in ports
    ]
    killable.append(RestartableProcess("comms.outbox.relay", shared | {"WRITECARE_ROLE_DATABASE_URL": databases.relay}))
    post = SentMessages()
    clients = [
        Person(number, ports, factories.bearer(ctx, person, 12 * 3600), _of(number, conversations))
        for number, person in enumerate(people)
    ]
    closing = Person(CLIENTS, ports, factories.bearer(ctx, manager, 12 * 3600), conversations)
    for process in killable:
        process.start()
    listening = [asyncio.create_task(client.listen(post)) for client in clients]
    killing = asyncio.create_task(_kill(killable, kills, messages, post))
    try:
        await asyncio.gather(*(client.write(messages // CLIENTS, post) for client in clients))
        await killing
        for conversation in conversations:
            post.ends.add(await closing.say(conversation, f"the end of {conversation}", post))
        async with asyncio.timeout(_LAST_SECONDS):
            await asyncio.gather(*listening)
    finally:
        for task in (*listening, killing):
            task.cancel()
        for client in (*clients, closing):
            await client.close()
        for process in killable:
            process.kill()
    return manager, clients, post


async def _people(ctx: AppContext) -> tuple[Actor, list[Actor]]:
    manager = await factories.make_actor(ctx, "care_manager")
    return manager, [await factories.make_user(ctx, manager.tenant_id) for _ in range(CLIENTS)]


def _of(number: int, conversations: list[str]) -> list[str]:
    """The two conversations of a client."""
    first, second = number % CONVERSATIONS, (number * 7 + 1) % CONVERSATIONS
    return [conversations[first], conversations[second if second != first else (second + 1) % CONVERSATIONS]]


async def _conversations(ctx: AppContext, manager: Actor, people: list[Actor]) -> list[str]:
    made = []
    for place in range(CONVERSATIONS):
        places = [str(number) for number in range(CONVERSATIONS)]
        members = [person for number, person in enumerate(people) if str(place) in _of(number, places)]
        new = NewConversation(conversation_type="group", members=tuple(member.user_id for member in members))
        async with ctx.database.acting_as(manager) as conn:
            conversation, _ = await make_conversation(conn, manager, new)
        made.append(str(conversation.id))
    return made


async def _kill(processes: list[RestartableProcess], kills: int, messages: int, post: SentMessages) -> None:
    """Kills one process after the other, evenly distributed over the work."""
    for number in range(1, kills + 1):
        while len(post.acknowledged) < messages * number / (kills + 1):  # noqa: ASYNC110 (it happens elsewhere)
            await asyncio.sleep(0.02)
        process = processes[number % len(processes)]
        process.kill()
        process.start()


def wrong(
    databases: Databases, tenant_id: uuid.UUID, clients: list[Person], post: SentMessages
) -> dict[str, list[Any]]:
    """All errors by name. Every list is empty if all messages arrived once and in order."""
    kept: dict[str, list[str]] = {}
    contents: dict[str, str] = {}
    for row in seen(
        databases, "select conversation_id::text as conversation, id::text, content from messages "
        "where tenant_id = %s order by id", tenant_id,
    ):  # fmt: skip
        kept.setdefault(row["conversation"], []).append(row["id"])
        contents[row["id"]] = row["content"]
    received = [
        (client, conversation, told) for client in clients for conversation, told in client.received.messages.items()
    ]
    return {
        "acknowledged messages that are not there, or twice": sorted(
            set(post.acknowledged.items()) ^ {(content, id) for id, content in contents.items()}
        ),
        "contents written twice": [] if len(set(contents.values())) == len(contents) else [len(contents)],
        "conversations in which one writer's messages are out of order": [
            conversation for conversation, ids in kept.items() if not _in_order([contents[id] for id in ids])
        ],
        "people who missed messages": [c for _, c, told in received if set(kept[c]) - set(told)],
        "people who received a message twice": [c for _, c, told in received if len(set(told)) < len(told)],
        "people who received messages in another order than stored": [c for _, c, told in received if told != kept[c]],
        "people whose positions did not increase": [
            client.received.positions[:3]
            for client in clients
            if client.received.positions != sorted(set(client.received.positions))
        ],
    }


def _in_order(contents: list[str]) -> bool:
    """Whether the numbers of each writer increase."""
    last: dict[str, int] = {}
    for content in contents:
        writer, slash, number = content.partition("/")
        if slash and int(number) <= last.get(writer, -1):
            return False
        if slash:
            last[writer] = int(number)
    return True


async def main(messages: int, kills: int) -> int:
    """Runs the test on its own database; prints what was done and the errors."""
    with tempfile.TemporaryDirectory(prefix="writecare-messaging-") as folder:
        data = Path(folder)
        server = EmbeddedPostgres(data)
        server.start()
        try:
            databases = provision(server.url(), data / "keys", maintenance_url=server.url("postgres"))
            settings = Settings(data_dir=data, role_database_url=SecretStr(databases.app))
            began = time.monotonic()
            async with open_app_context(settings, Metrics()) as ctx:
                manager, clients, post = await run_messaging_with_kills(ctx, databases, messages, kills)
            seconds = time.monotonic() - began
            found = wrong(databases, manager.tenant_id, clients, post)
        finally:
            server.stop()
    deliveries = sum(len(told) for client in clients for told in client.received.messages.values())
    connections = sum(client.received.connections for client in clients)
    print(f"{len(post.acknowledged)} messages of {CLIENTS} people in {seconds:.0f} s, {deliveries} deliveries")
    print(f"{post.asked_again} requests repeated, {connections} connections, {kills} processes killed")
    for what, which in found.items():
        print(f"{what}: {len(which)}")
    return int(any(found.values()))


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    sys.exit(asyncio.run(main(wanted, max(6, wanted // 2000))))
