"""The sealer: lays each tenant's chain over committed acts, and anchors it outside the database.

    python -m comms.governance.audit.sealer

A process of its own with a role that sees acts, seals and nothing else. Writers never wait for it: they leave a row
in `audit_unsealed`; seals and the removal of those rows are one transaction, so that a sealer killed at any moment
has sealed a batch whole or not at all, and the next one goes on.
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

_LOCK: Final = 0x77636333  # one sealer at a time
_BATCH: Final = 1000
_IDLE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


async def seal_forever(url: str, anchor_store: AnchorStore, anchor_seconds: float, stopping: asyncio.Event) -> None:
    """Seals until `stopping` is set, then what is left; one sealer at a time."""
    await run_as_leader(
        "sealer", url, _LOCK, lambda conn: _seal_until(conn, anchor_store, anchor_seconds, stopping), stopping
    )


async def _seal_until(
    conn: Connection, anchor_store: AnchorStore, anchor_seconds: float, stopping: asyncio.Event
) -> None:
    clock = asyncio.get_running_loop().time
    unanchored = await _heads(conn)  # a predecessor may have been killed before it anchored what it sealed
    anchored = clock() - anchor_seconds
    while True:
        last = stopping.is_set()  # asked first: what was committed before the signal is sealed in this round
        while heads := await seal_batch(conn):
            unanchored |= heads
        if last or clock() - anchored >= anchor_seconds:
            unanchored = await anchor(anchor_store, unanchored)
            anchored = clock()
        if last:
            return
        await sleep_unless_stopping(stopping, _IDLE_SECONDS)


async def seal_batch(conn: Connection) -> dict[UUID, Head]:
    """Seals the acts that have waited longest; returns the new heads of their tenants, none where nothing waits."""
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
    """The acts that have waited longest, those of a tenant together. By the queue, never by an id that was last."""
    found = await conn.execute(
        f"with oldest as (select l.* from audit_unsealed q join {ACTS_AS_TEXT} l "  # noqa: S608 (a constant)
        "                on l.tenant_id = q.tenant_id and l.id = q.audit_id order by q.audit_id limit %s) "
        "select * from oldest order by tenant_id, id",
        (_BATCH,),
    )
    return await found.fetchall()


async def _heads(conn: Connection, tenants: set[UUID] | None = None) -> dict[UUID, Head]:
    """Where the chains stand: of these tenants, or of all."""
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
    """Anchors the heads; returns those that could not be, to be tried again.

    A chain that ends before its last anchor has been cut: it gets no new one, so that the old one goes on saying so.
    """
    left: dict[UUID, Head] = {}
    for tenant_id, head in unanchored.items():
        try:
            before = await anchor_store.newest(tenant_id)
            if before is not None and before.number > head.number:
                _log.error("a chain ends before its anchor", tenant_id=str(tenant_id), number=head.number)
            elif before is None or before.number < head.number:
                await anchor_store.append(head, datetime.now(UTC))
        except WriteCareError as error:
            _log.warning("a chain could not be anchored", tenant_id=str(tenant_id), problem=error.slug)
            left[tenant_id] = head
    return left


async def run(settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """The process's work."""
    anchor_store = AnchorStore(Objects.open(settings), AnchorKey.open(settings.data_dir / "keys"))
    await seal_forever(url, anchor_store, settings.audit_anchor_seconds, stopping)


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
