"""The sealer: adds committed audit entries to each tenant's hash chain, and writes anchors outside the database.

    python -m comms.governance.audit.sealer

It is a process of its own, and its role sees only audit entries and seals. Writers never wait for it: they add a row to
`audit_unsealed`. One transaction inserts the seals and deletes those rows. So if the sealer is killed, a batch is
sealed completely or not at all, and the next sealer continues.
"""

import asyncio
import sys
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import structlog

from comms.governance.audit.anchors import AnchorKey, AnchorStore, Head
from comms.governance.audit.hash_chain import ACTS_AS_TEXT, GENESIS, next_hash
from comms.kernel.database import Connection
from comms.kernel.processes.leader_election import run_as_leader, sleep_unless_stopping
from comms.kernel.processes.runner import run_until_signalled
from comms.kernel.settings import Settings
from comms.kernel.storage.object_store import Objects
from models.contract.errors import WriteCareError

_LOCK: Final = 0x77636333  # the advisory lock of the leader
_BATCH: Final = 1000
_IDLE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


async def seal_forever(url: str, anchor_store: AnchorStore, anchor_seconds: float, stopping: asyncio.Event) -> None:
    """Seals as the leader until `stopping` is set, then seals what is left."""
    await run_as_leader(
        "sealer", url, _LOCK, lambda conn: _seal_until(conn, anchor_store, anchor_seconds, stopping), stopping
    )


async def _seal_until(
    conn: Connection, anchor_store: AnchorStore, anchor_seconds: float, stopping: asyncio.Event
) -> None:
    clock = asyncio.get_running_loop().time
    unanchored = await _heads(conn)  # the sealer before may have been killed before it wrote its anchors
    anchored = clock() - anchor_seconds
    while True:
        last = stopping.is_set()  # read first: entries that were committed before the signal are sealed in this round
        while heads := await seal_batch(conn):
            unanchored |= heads
        if last or clock() - anchored >= anchor_seconds:
            unanchored = await anchor(anchor_store, unanchored)
            anchored = clock()
        if last:
            return
        await sleep_unless_stopping(stopping, _IDLE_SECONDS)


async def seal_batch(conn: Connection) -> dict[UUID, Head]:
    """Seals the entries that have waited longest; returns the new heads of their tenants, empty if nothing waits."""
    async with conn.transaction():
        acts = await _lock_batch(conn)
        heads = await _heads(conn, {act["tenant_id"] for act in acts})
        seals: list[tuple[UUID, int, UUID, bytes]] = []
        for tenant_id, of_tenant in groupby(acts, key=lambda act: act["tenant_id"]):
            head = heads.get(tenant_id)
            number, hash = (head.number, bytes.fromhex(head.hash)) if head is not None else (0, GENESIS)
            for act in of_tenant:
                number, hash = number + 1, next_hash(hash, number + 1, act)
                seals.append((tenant_id, number, act["id"], hash))
            heads[tenant_id] = Head(tenant_id=tenant_id, number=number, hash=hash.hex())
        if seals:
            await _insert_seals(conn, seals)
    return heads


async def _lock_batch(conn: Connection) -> list[dict[str, Any]]:
    """Returns the entries that have waited longest, grouped by tenant. It reads the queue, not the ids after the last
    seal: an entry with a lower id can commit later."""
    found = await conn.execute(
        f"with oldest as (select l.* from audit_unsealed q join {ACTS_AS_TEXT} l "  # noqa: S608 (a constant)
        "                on l.tenant_id = q.tenant_id and l.id = q.audit_id order by q.audit_id limit %s) "
        "select * from oldest order by tenant_id, id",
        (_BATCH,),
    )
    return await found.fetchall()


async def _heads(conn: Connection, tenants: set[UUID] | None = None) -> dict[UUID, Head]:
    """Returns the heads of the chains of these tenants, or of all."""
    found = await conn.execute(
        "select t.id as tenant_id, head.number, encode(head.hash, 'hex') as hash from tenants t, lateral "
        "(select number, hash from audit_seals s where s.tenant_id = t.id order by number desc limit 1) head "
        "where %(tenants)s::uuid[] is null or t.id = any(%(tenants)s)",
        {"tenants": None if tenants is None else list(tenants)},
    )
    return {row["tenant_id"]: Head(**row) async for row in found}


async def _insert_seals(conn: Connection, seals: list[tuple[UUID, int, UUID, bytes]]) -> None:
    tenants, numbers, acts, hashes = (list(column) for column in zip(*seals, strict=True))
    await conn.execute(
        "insert into audit_seals (tenant_id, number, audit_id, hash) "
        "select * from unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::bytea[])",
        (tenants, numbers, acts, hashes),
    )
    await conn.execute(
        "delete from audit_unsealed q using unnest(%s::uuid[], %s::uuid[]) as sealed (tenant_id, audit_id) "
        "where q.tenant_id = sealed.tenant_id and q.audit_id = sealed.audit_id",
        (tenants, acts),
    )


async def anchor(anchor_store: AnchorStore, unanchored: dict[UUID, Head]) -> dict[UUID, Head]:
    """Anchors the heads; returns those that could not be anchored, to be tried again.

    A chain that ends before its last anchor has been cut. It gets no new anchor, so that the old one continues to show
    the fault.
    """
    left: dict[UUID, Head] = {}
    for tenant_id, head in unanchored.items():
        try:
            before = await anchor_store.newest(tenant_id)
            if before is not None and before.number > head.number:
                _log.error("the chain ends before its last anchor", tenant_id=str(tenant_id), number=head.number)
            elif before is None or before.number < head.number:
                await anchor_store.append(head, datetime.now(UTC))
        except WriteCareError as error:
            _log.warning("the anchor could not be written", tenant_id=str(tenant_id), problem=error.slug)
            left[tenant_id] = head
    return left


async def run(settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """Runs the sealer."""
    anchor_store = AnchorStore(Objects.open(settings), AnchorKey.open(settings.data_dir / "keys"))
    await seal_forever(url, anchor_store, settings.audit_anchor_seconds, stopping)


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
