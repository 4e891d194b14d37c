"""The audit log: who did what to which object, when, from where and why.

Each entry is written in the same transaction as the change that it records. The log is append-only; the sealer
(`comms/governance/audit/sealer.py`) adds committed entries to the hash chain.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from comms.kernel.database import Connection
from models.contract.records import Record


class Act(Record):
    """One audit entry. `number` is its position in the tenant's chain, null until it is sealed."""

    id: UUID
    number: int | None
    actor_id: UUID
    actor_role: str
    action: str
    object_type: str
    object_id: UUID
    details: dict[str, Any]
    created_at: datetime
    request_id: UUID | None
    address: str | None = Field(repr=False)
    reason: str | None


class ActFilter(Record):
    """A filter for audit entries: every given field must match."""

    object_type: str | None = None
    object_id: UUID | None = None
    actor_id: UUID | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_LIST: Final = (
    "select l.id, s.number, l.actor_id, l.actor_role, l.action, l.object_type, l.object_id, l.details, l.created_at, "
    "l.request_id, host(l.address) as address, l.reason from audit_log l "
    "left join audit_seals s on s.tenant_id = l.tenant_id and s.audit_id = l.id "
)


async def list_acts(conn: Connection, wanted: ActFilter, *, before: UUID, limit: int) -> list[Act]:
    """Lists the audit entries that match the filter, with an id before `before`, newest first."""
    narrowed = {
        "object_type": "l.object_type = %(object_type)s", "object_id": "l.object_id = %(object_id)s",
        "actor_id": "l.actor_id = %(actor_id)s", "action": "l.action = %(action)s",
        "since": "l.created_at >= %(since)s", "until": "l.created_at < %(until)s",
    }  # fmt: skip
    named = wanted.model_dump(exclude_none=True)
    conditions = " and ".join(["l.id < %(before)s", *(narrowed[name] for name in named)])
    found = await conn.execute(
        f"{_LIST} where {conditions} order by l.id desc limit %(limit)s".encode(),
        {**named, "before": before, "limit": limit},
    )
    return [Act.model_validate(row) for row in await found.fetchall()]
