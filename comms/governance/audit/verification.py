"""Verifies a chain: each seal against its entry, the hash before it and the anchors outside the database.

It reads in pages, so that its memory does not grow with the chain. It changes nothing.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from psycopg import OperationalError
from psycopg.rows import dict_row

from comms.governance.audit.anchors import Anchor, AnchorStore
from comms.governance.audit.hash_chain import ACTS_AS_TEXT, GENESIS, next_hash
from comms.kernel.database import Connection, one
from models.contract.errors import missing, unavailable
from models.contract.records import Record

PATIENCE: Final = timedelta(seconds=60)  # if an entry has waited longer, no sealer runs
_BACKDATED: Final = timedelta(hours=1)  # no transaction takes so long that its entries come this late
_PAGE: Final = 2000

FaultCode = Literal[
    "seal-missing", "act-missing", "hash-differs", "act-backdated", "anchor-forged", "anchor-unordered",
    "anchor-differs", "chain-cut", "act-unqueued", "act-removed-unsealed",
]  # fmt: skip

_SENTENCES: Final[dict[FaultCode, str]] = {
    "seal-missing": "there is no seal with this number, but there is a later one",
    "act-missing": "the audit entry of this seal is missing",
    "hash-differs": "the entry, or one before it, is not what was sealed",
    "act-backdated": "the entry has a time long before that of entries sealed earlier",
    "anchor-forged": "an anchor in storage was not signed with this installation's key",
    "anchor-unordered": "an anchor has a lower number than an older anchor: the chain was cut and rebuilt",
    "anchor-differs": "the chain is not the one that was anchored: it was rebuilt",
    "chain-cut": "the chain ends before this anchored number: its last entries were removed",
    "act-unqueued": "the log has an entry that was never queued for sealing",
    "act-removed-unsealed": "an entry was removed before it was sealed",
}


class Fault(Record):
    """The first fault of a chain, with the number of the seal and the id of the entry where there are any."""

    code: FaultCode
    number: int | None = None
    audit_id: UUID | None = None

    def sentence(self) -> str:
        """Says what is wrong, and where."""
        place = [f"number {self.number}"] if self.number is not None else []
        place += [f"entry {self.audit_id}"] if self.audit_id is not None else []
        return f"{self.code} at {', '.join(place) or 'its anchors'}: {_SENTENCES[self.code]}"


class Verification(Record):
    """The result for a tenant's chain: it is whole, or has a first fault.

    `sealed` is the last number, `anchored` the last number with an anchor in storage. Only the chain protects the
    `unanchored` entries between them: an attacker who can write to the database can remove the newest of them, and no
    verification shows it. A short wait for the sealer is no fault; `overdue` means that entries have waited longer than
    a running sealer lets them.
    """

    tenant_id: UUID
    whole: bool
    fault: Fault | None
    sealed: int
    sealed_at: datetime | None
    anchored: int
    anchored_at: datetime | None
    unanchored: int
    waiting: int
    waiting_since: datetime | None
    overdue: bool


async def verify_chain(conn: Connection, anchor_store: AnchorStore, tenant_id: UUID) -> Verification:
    """Verifies the tenant's whole chain; `conn` acts as the sealer or as an officer. Raises `unavailable` (storage)."""
    fault, sealed, sealed_at = await _check_chain(conn, tenant_id)
    misfit, anchor = await _compare_anchors(conn, anchor_store, tenant_id)
    fault = fault or misfit or await _find_unchained(conn, tenant_id)
    waiting = one(
        await (
            await conn.execute(
                "select count(*) as waiting, min(l.created_at) as waiting_since, "
                "coalesce(min(l.created_at) < clock_timestamp() - %s, false) as overdue "
                "from audit_unsealed q join audit_log l on l.tenant_id = q.tenant_id and l.id = q.audit_id "
                "where q.tenant_id = %s",
                (PATIENCE, tenant_id),
            )
        ).fetchone()
    )
    anchored = anchor.number if anchor is not None else 0
    return Verification(
        tenant_id=tenant_id, whole=fault is None, fault=fault, sealed=sealed, sealed_at=sealed_at,
        anchored=anchored, anchored_at=anchor.anchored_at if anchor is not None else None,
        unanchored=max(0, sealed - anchored), **waiting,
    )  # fmt: skip


async def _check_chain(conn: Connection, tenant_id: UUID) -> tuple[Fault | None, int, datetime | None]:
    """Checks every seal in order; returns the first fault, and the last good number with its time."""
    number, hash, sealed_at, newest_act = 0, GENESIS, None, None
    while page := await _page(conn, tenant_id, number):
        for seal in page:
            if seal["number"] != number + 1:
                return Fault(code="seal-missing", number=number + 1), number, sealed_at
            if seal["id_"] is None:
                return Fault(code="act-missing", number=number + 1, audit_id=seal["audit_id"]), number, sealed_at
            expected = next_hash(hash, number + 1, seal)
            if bytes(seal["hash"]) != expected:
                return Fault(code="hash-differs", number=number + 1, audit_id=seal["audit_id"]), number, sealed_at
            if newest_act is not None and seal["created_at"] < newest_act - _BACKDATED:
                return Fault(code="act-backdated", number=number + 1, audit_id=seal["audit_id"]), number, sealed_at
            number, hash, sealed_at = number + 1, expected, seal["sealed_at"]
            newest_act = seal["created_at"] if newest_act is None else max(newest_act, seal["created_at"])
    return None, number, sealed_at


async def _page(conn: Connection, tenant_id: UUID, after: int) -> list[dict[str, Any]]:
    found = await conn.execute(
        f"select s.number, s.hash, s.audit_id, s.sealed_at, l.* from audit_seals s left join {ACTS_AS_TEXT} l "  # noqa: S608
        "on l.tenant_id = s.tenant_id and l.id = s.audit_id "
        "where s.tenant_id = %s and s.number > %s order by s.number limit %s",
        (tenant_id, after, _PAGE),
    )
    return await found.fetchall()


async def _compare_anchors(
    conn: Connection, anchor_store: AnchorStore, tenant_id: UUID
) -> tuple[Fault | None, Anchor | None]:
    """Compares every anchor with the seal of its number; returns the first fault and the newest anchor."""
    newest: Anchor | None = None
    async for day in anchor_store.days(tenant_id):
        found = await conn.execute(
            "select number, encode(hash, 'hex') as hash from audit_seals where tenant_id = %s and number = any(%s)",
            (tenant_id, [anchor.number for anchor in day if anchor is not None]),
        )
        seals = {row["number"]: row["hash"] async for row in found}
        for anchor in day:
            if anchor is None:
                return Fault(code="anchor-forged"), newest
            if newest is not None and anchor.number < newest.number:
                return Fault(code="anchor-unordered", number=anchor.number), newest
            newest = anchor
            if anchor.number not in seals:
                return Fault(code="chain-cut", number=anchor.number), newest
            if seals[anchor.number] != anchor.hash:
                return Fault(code="anchor-differs", number=anchor.number), newest
    return None, newest


async def _find_unchained(conn: Connection, tenant_id: UUID) -> Fault | None:
    """Finds an entry that is neither sealed nor queued, or a queued one that is gone. Each check is one statement, so
    that it reads one snapshot."""
    found = await conn.execute(
        "select l.id from audit_log l where l.tenant_id = %(tenant)s "
        "and not exists (select from audit_seals s where s.tenant_id = l.tenant_id and s.audit_id = l.id) "
        "and not exists (select from audit_unsealed q where q.tenant_id = l.tenant_id and q.audit_id = l.id) "
        "order by l.id limit 1",
        {"tenant": tenant_id},
    )
    if (row := await found.fetchone()) is not None:
        return Fault(code="act-unqueued", audit_id=row["id"])
    found = await conn.execute(
        "select q.audit_id from audit_unsealed q where q.tenant_id = %(tenant)s "
        "and not exists (select from audit_log l where l.tenant_id = q.tenant_id and l.id = q.audit_id) "
        "order by q.audit_id limit 1",
        {"tenant": tenant_id},
    )
    row = await found.fetchone()
    return None if row is None else Fault(code="act-removed-unsealed", audit_id=row["audit_id"])


async def verify_chains(
    url: str, anchor_store: AnchorStore, slug: str | None
) -> AsyncIterator[tuple[str, Verification]]:
    """Yields the slug and verification of each tenant, or of one if given; logs in as the sealer.

    Raises `missing` for an unknown slug, `unavailable` (database, storage).
    """
    try:
        async with await Connection.connect(
            url, autocommit=True, row_factory=dict_row, connect_timeout=10, application_name="writecare-verify"
        ) as conn:
            found = await conn.execute(
                "select id, slug from tenants where %(slug)s::text is null or slug = %(slug)s order by slug",
                {"slug": slug},
            )
            tenants = await found.fetchall()
            if slug is not None and not tenants:
                raise missing("tenant")
            for tenant in tenants:
                yield tenant["slug"], await verify_chain(conn, anchor_store, tenant["id"])
    except OperationalError:
        raise unavailable("database-unreachable", "The database cannot be reached; try again shortly.") from None
