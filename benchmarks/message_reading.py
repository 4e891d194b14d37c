"""Measures how soon a concern in a message reaches the safeguarding team while 20 messages a second are sent.

    ./writecare bench message_reading
    python -m benchmarks.message_reading --rate 10

Runs a whole instance as `up` starts it, with the real models. People of a home talk in 20 conversations at once. The
texts come from the training corpus; some voice a concern. They send 20 messages a second for 70 s; the first 10 s are
the warm-up. A concern's time runs from the answer to its message's POST to its alert's event on the lead's open
WebSocket. The baseline is the bare safeguarding model in a separate process: it scores one message with the turns
before it, once in each interval of 5 s. Prints p50, p95 and the maximum; how many messages were not assessed and how
many concerns had no event; how many concerns had their evidence at the end; the median of the intervals' ratios; and
the processor milliseconds per message for each kind of process during the load.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.bare_models import Inputs, bare_models
from benchmarks.processor_time import seconds_by_kind
from benchmarks.running_instance import BenchInstance, bench
from cli.api_walkthrough import TENANT
from comms.identity.bootstrap import ensure_tenant, ensure_user
from comms.kernel.access.tokens import Issuer
from comms.kernel.database import Database
from models.contract.json_lines import read_json_lines
from models.contract.records import Conversation, Turn

CORPUS: Final = Path("training/data/care_conversations")
MESSAGES_A_SECOND: Final = 20.0
CONCURRENT_CONVERSATIONS: Final = 20  # conversations
INTERVAL_SECONDS: Final = 5.0
INTERVALS: Final = 14
WARM_UP_INTERVALS: Final = 2  # of these intervals
PATIENCE_SECONDS: Final = 60.0
# all other roles are care workers
ROLE_OF: Final = {"manager": "care_manager", "resident": "resident", "family": "external"}
BARE: Final = "detect-safeguarding"


@dataclass
class Observations:
    """Times on one clock: of answered messages, and of alert events by the messages that they name."""

    answered: dict[str, float] = field(default_factory=dict)
    alerted: dict[str, float] = field(default_factory=dict)
    bare: list[float] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)  # processor seconds during the load, by kind of process


def corpus() -> list[dict[str, Any]]:
    """The corpus's conversations as stored."""
    return [row for file in sorted(CORPUS.glob("*.jsonl")) for row in read_json_lines(file)]


def lines() -> list[list[tuple[str, str]]]:
    """The corpus's conversations: the account role of each speaker, and the text."""
    found = []
    for talk in corpus():
        roles = {person["speaker"]: ROLE_OF.get(person["role"], "care_worker") for person in talk["participants"]}
        found.append([(roles[turn["speaker"]], turn["text"]) for turn in talk["turns"]])
    return found


async def people(running: BenchInstance) -> dict[str, dict[str, str]]:
    """Creates one user for each role. Returns id and token."""
    settings = running.instance.settings
    database = Database(running.instance.databases.app, most=2)
    await database.open()
    issuer = Issuer.open(settings.data_dir / "keys", settings.issuer)
    try:
        tenant_id = await ensure_tenant(database, TENANT)
        made = {}
        for role in ("care_manager", "care_worker", "resident", "external"):
            actor = await ensure_user(database, tenant_id, f"bench-{role.replace('_', '-')}", role)
            made[role] = {"id": str(actor.user_id), "token": issuer.sign(actor, 3600.0)}
        return made
    finally:
        await database.close()


class MessageSenders:
    """The users, who send the corpus's messages in several conversations at the same time."""

    def __init__(self, client: httpx.AsyncClient, staff: dict[str, dict[str, str]], observations: Observations) -> None:
        self._client = client
        self._people = staff
        self._seen = observations
        self._left: list[list[tuple[str, str, str]]] = []  # per concurrent conversation: conversation, role, text

    async def prepare(self, messages: int) -> None:
        """Creates enough conversations for so many messages."""
        talks = iter(lines())
        others = [person["id"] for role, person in self._people.items() if role != "care_manager"]
        body = {"conversation_type": "group", "members": others}
        for _ in range(CONCURRENT_CONVERSATIONS):
            of_place: list[tuple[str, str, str]] = []
            while len(of_place) < messages / CONCURRENT_CONVERSATIONS:
                made = await self._client.post("/api/conversations", json=body, headers=self._as("care_manager"))
                conversation_id = made.raise_for_status().json()["id"]
                of_place += [(conversation_id, role, text) for role, text in next(talks)]
            self._left.append(of_place)

    async def say(self, number: int) -> None:
        """Sends the next message; the conversations take turns."""
        conversation_id, role, text = self._left[number % CONCURRENT_CONVERSATIONS].pop(0)
        body = {"conversation_id": conversation_id, "content": text}
        answer = await self._client.post("/api/messages", json=body, headers=self._as(role))
        self._seen.answered[answer.raise_for_status().json()["id"]] = time.perf_counter()

    def _as(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._people[role]['token']}"}


async def listen(socket: ClientConnection, observations: Observations) -> None:
    """Records when an alert event first named each message."""
    async for received in socket:
        event = json.loads(received)
        if event.get("type", "").endswith("safeguarding.alert"):
            for message_id in event["data"]["message_ids"]:
                observations.alerted.setdefault(message_id, time.perf_counter())


async def ask_bare(bare: Callable[[str], float], observations: Observations) -> None:
    """Runs the baseline once in each interval."""
    while True:
        observations.bare.append(await asyncio.to_thread(bare, BARE))
        await asyncio.sleep(max(0.0, INTERVAL_SECONDS - observations.bare[-1]))


async def run(running: BenchInstance, bare: Callable[[str], float], rate: float) -> tuple[Observations, float]:
    """Runs the load. Returns the observations and its start time."""
    observations = Observations()
    address = running.instance.address
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
        senders = MessageSenders(client, await people(running), observations)
        messages = int(INTERVALS * INTERVAL_SECONDS * rate)
        await senders.prepare(messages)
        lead = {"Authorization": f"Bearer {running.tokens.lead}"}
        ticket = (await client.post("/api/ws/tickets", headers=lead)).raise_for_status().json()["ticket"]
        async with connect(f"{address.replace('http', 'ws')}/ws/alerts?ticket={ticket}", proxy=None) as socket:
            listening = asyncio.create_task(listen(socket, observations))
            began, spent = time.perf_counter(), seconds_by_kind()
            measuring = asyncio.create_task(ask_bare(bare, observations))
            sending = []
            for number in range(messages):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                sending.append(asyncio.create_task(senders.say(number)))
            await asyncio.gather(*sending)
            measuring.cancel()
            observations.spent = {kind: now - spent.get(kind, 0.0) for kind, now in seconds_by_kind().items()}
            await wait_until_assessed(running, observations)
            listening.cancel()
    return observations, began


async def wait_until_assessed(running: BenchInstance, observations: Observations) -> None:
    """Waits until every answered message is assessed and every concern has its event."""
    until = time.perf_counter() + PATIENCE_SECONDS
    while time.perf_counter() < until:
        unread, cited = remaining(running, observations)
        if not unread and cited <= set(observations.alerted):
            return
        await asyncio.sleep(0.5)


def remaining(running: BenchInstance, observations: Observations) -> tuple[int, set[str]]:
    """How many messages have no assessment yet, and which messages an alert cites."""
    with psycopg.connect(running.instance.databases.administrator) as conn:
        read = {str(row[0]) for row in conn.execute("select message_id from message_readings where not again")}
        cited = {str(row[0]) for row in conn.execute("select distinct message_id from alert_evidence")}
    return len(set(observations.answered) - read), cited


def count_unexplained(running: BenchInstance) -> int:
    """How many cited concerns still wait for their evidence spans."""
    with psycopg.connect(running.instance.databases.administrator) as conn:
        [[count]] = conn.execute("select count(*) from alert_evidence where spans_due_at is not null").fetchall()
    return int(count)


def report(running: BenchInstance, observations: Observations, began: float) -> None:
    """Prints the results."""
    unread, cited = remaining(running, observations)
    warm = began + WARM_UP_INTERVALS * INTERVAL_SECONDS
    waits: dict[str, float] = {}
    for message_id in cited & set(observations.alerted):
        if observations.answered[message_id] >= warm:
            waits[message_id] = max(0.0, observations.alerted[message_id] - observations.answered[message_id])
    ordered = sorted(waits.values())
    ratios = []
    for interval in range(WARM_UP_INTERVALS, min(INTERVALS, len(observations.bare))):
        first = began + interval * INTERVAL_SECONDS
        of_it = [wait for one, wait in waits.items() if first <= observations.answered[one] < first + INTERVAL_SECONDS]
        if of_it:
            ratios.append(statistics.median(of_it) / observations.bare[interval])
    print(f"messages {len(observations.answered)}, concerns {len(cited)} (measured {len(ordered)})")
    print(
        f"not assessed {unread}, concerns without event {len(cited - set(observations.alerted))}, "
        f"not explained {count_unexplained(running)}"
    )
    print(f"p50 {statistics.median(ordered):.2f} s  p95 {ordered[int(len(ordered) * 0.95)]:.2f} s  "
          f"longest {ordered[-1]:.2f} s")  # fmt: skip
    print(f"bare model, one message: {statistics.median(observations.bare[WARM_UP_INTERVALS:]) * 1e3:.0f} ms")
    print(f"ratio {statistics.median(ratios):.1f}  ({min(ratios):.1f} to {max(ratios):.1f}, {len(ratios)} intervals)")
    for kind, seconds in sorted(observations.spent.items(), key=lambda one: -one[1]):
        print(f"{kind:22} {seconds / len(observations.answered) * 1e3:6.1f} ms per message")
    print(f"{'together':22} {sum(observations.spent.values()) / len(observations.answered) * 1e3:6.1f} ms per message")


def one_message() -> Conversation:
    """The input of the baseline: a message and the six before it."""
    turns: list[dict[str, Any]] = corpus()[0]["turns"][:7]
    return Conversation(id="bench", turns=tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in turns))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=MESSAGES_A_SECOND, metavar="N", help="messages a second")
    rate = parser.parse_known_args()[0].rate  # `./writecare bench` adds other arguments
    with bench() as running, bare_models(running.instance.settings, Inputs(one_message(), ())) as bare:
        bare(BARE)
        observations, began = asyncio.run(run(running, bare, rate))
        report(running, observations, began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
