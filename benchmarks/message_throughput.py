"""Measures how many messages a second 32 clients can send: POST /api/messages over pgbench with the same statements.

    ./writecare bench message_throughput

Uses one API process, then one per processor, and one PostgreSQL, as `up` starts them, without models and without the
rate limit. Each of 32 clients sends one message after the other in its own conversation, on a kept connection. The
baseline is pgbench on the same PostgreSQL: 32 clients of the same login under the same row-level security, prepared
statements, one round trip per statement. Rounds of both alternate, so that a busy machine slows both. Prints the median
of the rounds' ratios; the goal is 0.50.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.message_post import WORDS
from benchmarks.session_post import running_api
from comms.kernel.database import Actor
from instance.embedded_postgres import programs

CLIENTS: Final = 32
ROUNDS: Final = 7
ROUND_SECONDS: Final = 4

_CONVERSATION: Final = "01900000-0000-7000-8000-"  # the last digits are the client's number, which pgbench can insert
_SCRIPT: Final = """
begin;
select set_config('app.tenant_id', '{tenant}', true), set_config('app.user_id', '{person}', true),
    set_config('app.role', 'care_manager', true);
select active from users where tenant_id = '{tenant}' and id = '{person}';
select id as conversation, uuidv7() as moment, event_version + 1 as version from conversations
    where id = ('{conversation}' || lpad(:client_id::text, 12, '0'))::uuid for no key update \\gset
select after_id from conversation_members
    where conversation_id = :conversation and user_id = '{person}' and until_id is null;
update conversations set moment = :moment, event_version = :version where id = :conversation;
insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, message_type, content, reply_to,
    changed_id) values ('{tenant}', :moment, :conversation, '{person}', 'user', 'text', '{words}', null, :moment);
insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data)
    values ('{tenant}', 'message.sent', 'conversation', :conversation, :version,
        jsonb_build_object('conversation_id', :conversation::uuid, 'message_id', :moment::uuid));
insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, details)
    values ('{tenant}', '{person}', 'care_manager', 'message.sent', 'message', :moment,
        jsonb_build_object('conversation_id', :conversation::uuid));
commit;
"""


def make_conversations(url: str, actor: Actor) -> list[uuid.UUID]:
    """Creates one conversation of the actor for each client."""
    conversations = [uuid.UUID(f"{_CONVERSATION}{number:012d}") for number in range(CLIENTS)]
    with psycopg.connect(url) as admin:
        admin.execute("select set_config('app.tenant_id', %s, true)", (str(actor.tenant_id),))
        for conversation_id in conversations:
            admin.execute(
                "insert into conversations (tenant_id, id, conversation_type, created_by, moment) "
                "values (%s, %s, 'group', %s, %s)",
                (actor.tenant_id, conversation_id, actor.user_id, conversation_id),
            )
    return conversations


async def api_rate(port: int, requests: list[bytes]) -> float:
    """Messages a second through the API. There is one client per request; each repeats its own request."""
    until = time.perf_counter() + ROUND_SECONDS
    began = time.perf_counter()
    sent = sum(await asyncio.gather(*(_send_until(until, port, request) for request in requests)))
    return sent / (time.perf_counter() - began)


async def _send_until(until: float, port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    while time.perf_counter() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 "), head.split(b"\r\n")[0]
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        sent += 1
    writer.close()
    return sent


def request_of(token: str, conversation_id: uuid.UUID) -> bytes:
    """The bytes of one POST request."""
    body = json.dumps({"conversation_id": str(conversation_id), "content": WORDS}).encode()
    head = (
        "POST /api/messages HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pgbench_rate(url: str, script: Path) -> float:
    """Messages a second with pgbench."""
    output = subprocess.run(
        [programs() / "pgbench", "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2",
         f"--time={ROUND_SECONDS}", f"--file={script}", url],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", output)
    assert found is not None, output
    return float(found[1])


def measure(processes: int) -> None:
    """Prints the rates of this many API processes and of pgbench, measured in the same rounds."""
    with running_api(processes) as (databases, port, actor, token), tempfile.TemporaryDirectory() as folder:
        requests = [request_of(token, one) for one in make_conversations(databases.administrator, actor)]
        script = Path(folder) / "send.sql"
        script.write_text(
            _SCRIPT.format(tenant=actor.tenant_id, person=actor.user_id, conversation=_CONVERSATION, words=WORDS)
        )
        asyncio.run(api_rate(port, requests))  # warm-up: plans, caches
        pgbench_rate(databases.app, script)
        rounds = []
        for turn in range(ROUNDS):
            if turn % 2 == 0:
                ours, theirs = asyncio.run(api_rate(port, requests)), pgbench_rate(databases.app, script)
            else:
                theirs, ours = pgbench_rate(databases.app, script), asyncio.run(api_rate(port, requests))
            rounds.append((ours, theirs))
    ratios = [ours / theirs for ours, theirs in rounds]
    posts, pgbench = (statistics.median(found[column] for found in rounds) for column in (0, 1))
    print(f"{processes} API processes: {posts:.0f} posted a second, pgbench {pgbench:.0f}, "
          f"ratio {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)  # fmt: skip


def main() -> int:
    os.environ["WRITECARE_REQUESTS_A_MINUTE_USER"] = os.environ["WRITECARE_REQUESTS_A_MINUTE_TENANT"] = str(10**9)
    for processes in sorted({1, os.cpu_count() or 1}):
        measure(processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
