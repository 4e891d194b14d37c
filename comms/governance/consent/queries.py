"""Consent records: what people answered when they were asked for consent, and the history of their answers.

A database trigger writes the history (`app.keep_consent_history`), so that no change can be made without it.
"""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import Field

from comms.governance.consent.lawful_grounds import LegalBasis, Purpose
from comms.governance.consent.permissions import no_lawful_basis
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.text_types import Name, Words
from comms.kernel.time_types import Time
from comms.outbox.queries import emit
from models.contract.errors import conflict, invalid, missing
from models.contract.records import Record

ConsentStatus = Literal["requested", "granted", "refused", "withdrawn", "expired"]


class ConsentChange(Record):
    """A person's answer on one purpose, or a request for their consent."""

    user_id: UUID
    purpose: Purpose
    consent_method: Name | None = Field(default=None, max_length=100, examples=["verbal", "web_form", "email"])
    evidence: dict[str, Any] = Field(default_factory=dict, repr=False)
    expiry_date: Time | None = None
    reason: Words | None = Field(default=None, max_length=2000, repr=False)


class ConsentRecord(Record):
    """A person's present answer on one purpose. `consent_status` is 'expired' from `expiry_date` on."""

    id: UUID
    user_id: UUID
    purpose: Purpose
    activity_id: UUID
    consent_status: ConsentStatus
    legal_basis: LegalBasis
    consent_method: str | None
    granted_at: datetime | None
    withdrawn_at: datetime | None
    expiry_date: datetime | None
    changed_by: UUID
    version: int
    created_at: datetime


class ConsentAct(Record):
    """One immutable entry of the history."""

    id: UUID
    consent_record_id: UUID
    user_id: UUID
    purpose: Purpose
    action: str
    previous_status: ConsentStatus | None
    new_status: ConsentStatus
    reason: str | None = Field(repr=False)
    performed_by: UUID
    created_at: datetime


class ConsentOrigin(Record):
    """Where a change came from, stored with it as evidence."""

    ip_address: str | None = Field(default=None, repr=False)
    user_agent: str | None = Field(default=None, repr=False)


_COLUMNS: Final = (
    "r.id, r.data_subject_id as user_id, a.activity_type as purpose, a.id as activity_id, "
    "case when r.consent_status = 'granted' and r.expiry_date <= clock_timestamp() then 'expired' "
    "else r.consent_status end as consent_status, r.legal_basis, r.consent_method, r.granted_at, r.withdrawn_at, "
    "r.expiry_date, r.changed_by, r.version, r.created_at"
)
_JOINED: Final = (
    "consent_records r join data_processing_activities a "
    "on a.tenant_id = r.tenant_id and a.id = r.data_processing_activity_id"
)


async def request_consent(
    conn: Connection, actor: Actor, change: ConsentChange, origin: ConsentOrigin
) -> ConsentRecord:
    """Records that the person was asked; raises a conflict (`consent-standing`) if they have already consented."""
    activity_id, current = await _lock(conn, change)
    if current is not None and current.consent_status == "granted":
        raise conflict("consent-standing", "This person has already consented: you need not ask them.")
    return await _write(conn, actor, change, origin, activity_id=activity_id, status="requested")


async def grant_consent(conn: Connection, actor: Actor, change: ConsentChange, origin: ConsentOrigin) -> ConsentRecord:
    """Records a consent, until `expiry_date` if given; raises `refused` if the purpose has no lawful basis."""
    activity_id, _current = await _lock(conn, change)
    return await _write(conn, actor, change, origin, activity_id=activity_id, status="granted")


async def withdraw_consent(
    conn: Connection, actor: Actor, change: ConsentChange, origin: ConsentOrigin
) -> ConsentRecord:
    """Records a refusal: 'withdrawn' after a consent, else 'refused'. It counts on any legal basis. Repeating it is no
    error."""
    activity_id, current = await _lock(conn, change)
    if current is not None and current.consent_status in ("refused", "withdrawn"):
        return current
    after_yes = current is not None and current.consent_status in ("granted", "expired")
    return await _write(
        conn, actor, change, origin, activity_id=activity_id, status="withdrawn" if after_yes else "refused"
    )


async def _lock(conn: Connection, change: ConsentChange) -> tuple[UUID, ConsentRecord | None]:
    """Locks the activity in force against all transactions that depend on it; returns its id and the person's
    record."""
    known = await (await conn.execute("select 1 from users where id = %s", (change.user_id,))).fetchone()
    if known is None:
        raise missing("person")
    found = await conn.execute(
        "select id from data_processing_activities where activity_type = %s and ended_at is null for no key update",
        (change.purpose,),
    )
    activity = await found.fetchone()
    if activity is None:
        raise no_lawful_basis(change.purpose)
    record = await conn.execute(
        f"select {_COLUMNS} from {_JOINED} where r.data_subject_id = %s and a.id = %s",  # noqa: S608 (constants)
        (change.user_id, activity["id"]),
    )
    row = await record.fetchone()
    return activity["id"], ConsentRecord.model_validate(row) if row is not None else None


async def _write(
    conn: Connection,
    actor: Actor,
    change: ConsentChange,
    origin: ConsentOrigin,
    *,
    activity_id: UUID,
    status: ConsentStatus,
) -> ConsentRecord:
    written = await conn.execute(
        "insert into consent_records as r (tenant_id, data_subject_id, data_processing_activity_id, consent_status, "
        "legal_basis, consent_method, consent_evidence, granted_at, withdrawn_at, expiry_date, changed_by, reason, "
        "ip_address, user_agent) values (%(tenant)s, %(user)s, %(activity)s, %(status)s, 'consent', %(method)s, "
        "%(evidence)s, case when %(status)s = 'granted' then now() end, "
        "case when %(status)s in ('withdrawn', 'refused') then now() end, %(expiry)s, %(actor)s, %(reason)s, "
        "%(ip)s, %(agent)s) "
        "on conflict (tenant_id, data_subject_id, data_processing_activity_id) do update set "
        "consent_status = excluded.consent_status, consent_method = excluded.consent_method, "
        "consent_evidence = excluded.consent_evidence, granted_at = coalesce(excluded.granted_at, r.granted_at), "
        "withdrawn_at = excluded.withdrawn_at, expiry_date = excluded.expiry_date, changed_by = excluded.changed_by, "
        "reason = excluded.reason, ip_address = excluded.ip_address, user_agent = excluded.user_agent, "
        "version = r.version + 1 returning id, version",
        {
            "tenant": actor.tenant_id, "user": change.user_id, "activity": activity_id, "status": status,
            "method": change.consent_method, "evidence": Jsonb(change.evidence), "expiry": change.expiry_date,
            "actor": actor.user_id, "reason": change.reason, "ip": origin.ip_address, "agent": origin.user_agent,
        },
    )  # fmt: skip
    row = one(await written.fetchone())
    details = {"user_id": str(change.user_id), "purpose": change.purpose, "status": status}
    await emit(
        conn, actor, "consent.changed", aggregate=("consent", row["id"]), version=row["version"],
        data={**details, "consent_record_id": str(row["id"]), "activity_id": str(activity_id)},
    )  # fmt: skip
    await record_act(conn, actor, f"consent.{status}", ("consent", row["id"]), details)
    found = await conn.execute(f"select {_COLUMNS} from {_JOINED} where r.id = %s", (row["id"],))  # noqa: S608
    return ConsentRecord.model_validate(one(await found.fetchone()))


async def list_records(conn: Connection, user_id: UUID) -> list[ConsentRecord]:
    """Returns the person's record for each lawful basis they were asked about, newest first; raises `missing`."""
    if await (await conn.execute("select 1 from users where id = %s", (user_id,))).fetchone() is None:
        raise missing("person")
    found = await conn.execute(
        f"select {_COLUMNS} from {_JOINED} where r.data_subject_id = %s order by r.id desc",  # noqa: S608 (constants)
        (user_id,),
    )
    return [ConsentRecord.model_validate(row) for row in await found.fetchall()]


async def list_history(conn: Connection, *, user_id: UUID | None, before: UUID, limit: int) -> list[ConsentAct]:
    """Lists the history with an id before `before`, newest first; only of one person if given."""
    named = "" if user_id is None else " and r.data_subject_id = %(user)s"
    found = await conn.execute(
        "select t.id, t.consent_record_id, r.data_subject_id as user_id, "  # noqa: S608 (constants)
        "a.activity_type as purpose, t.action, "
        "t.previous_status, t.new_status, t.reason, t.performed_by, t.created_at "
        f"from consent_audit_trail t join ({_JOINED}) "
        "on r.tenant_id = t.tenant_id and r.id = t.consent_record_id "
        f"where t.id < %(before)s{named} order by t.id desc limit %(limit)s".encode(),
        {"before": before, "user": user_id, "limit": limit},
    )
    return [ConsentAct.model_validate(row) for row in await found.fetchall()]


def refuse_past_expiry(change: ConsentChange, now: datetime) -> None:
    """Raises `invalid` for a consent that would expire before it begins."""
    if change.expiry_date is not None and change.expiry_date <= now:
        raise invalid("expiry-past", "The expiry date is in the past: give a later one or none.")
