"""Checks whether a person's words may be recorded, transcribed, analysed … now. Called before each such step.

The answer can change at any time, so a step stores its result under a lock on the answer. It locks the processing
activity in force for share until its transaction ends. Every change of a lawful basis or of consent first takes a
conflicting lock on the same row (`comms/governance/consent/queries.py`). Either the change comes first and the step is
refused, or the step stores first and the change finds its result.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import UUID

from comms.governance.consent.lawful_grounds import LegalBasis, Purpose
from comms.kernel.database import Connection
from models.contract.errors import missing, refused
from models.contract.records import Record

Reason = Literal[
    "consent-granted", "legal-basis", "no-lawful-basis", "consent-missing", "consent-requested", "consent-refused",
    "consent-withdrawn", "consent-expired",
]  # fmt: skip


class Permission(Record):
    """Whether one person's words may be processed for one purpose, on which legal basis, and why or why not.

    `decided_by` is the person who put the lawful basis in force; `consent_record_id` is the person's own consent
    record, if any.
    """

    permitted: bool
    user_id: UUID
    purpose: Purpose
    reason: Reason
    legal_basis: LegalBasis | None = None
    activity_id: UUID | None = None
    decided_by: UUID | None = None
    consent_record_id: UUID | None = None


_ACTIVITY: Final = (
    "select id, legal_basis, decided_by from data_processing_activities where activity_type = %s and ended_at is null"
)
_RECORDS: Final = (
    "select id, data_subject_id, consent_status, expiry_date <= clock_timestamp() as lapsed from consent_records "
    "where data_processing_activity_id = %s and data_subject_id = any(%s) order by id"
)


async def permits(conn: Connection, user_id: UUID, purpose: Purpose) -> Permission:
    """Returns the permission now; raises `missing` for a person who is not of this tenant."""
    return (await _permissions(conn, (user_id,), purpose, _ACTIVITY, _RECORDS))[0]


async def permissions(conn: Connection, user_ids: Sequence[UUID], purpose: Purpose) -> tuple[Permission, ...]:
    """As `permits`, for several people, in their order."""
    return await _permissions(conn, user_ids, purpose, _ACTIVITY, _RECORDS)


async def lock_permission(conn: Connection, user_id: UUID, purpose: Purpose) -> Permission:
    """Returns the permission and locks it until this transaction ends. For the transaction that stores."""
    return (await lock_permissions(conn, (user_id,), purpose))[0]


async def lock_permissions(conn: Connection, user_ids: Sequence[UUID], purpose: Purpose) -> tuple[Permission, ...]:
    """As `lock_permission`, for several people, in their order."""
    # Two statements, the activity first: the second then reads a snapshot after any change that the first waited for.
    return await _permissions(conn, user_ids, purpose, f"{_ACTIVITY} for share", f"{_RECORDS} for share")


async def refuse_unless_permitted(
    conn: Connection, user_ids: Sequence[UUID], purpose: Purpose
) -> tuple[Permission, ...]:
    """Returns the locked permissions if all are given; else raises `refused` (`no-lawful-basis`, `consent-missing`)."""
    answers = await lock_permissions(conn, user_ids, purpose)
    if any(answer.reason == "no-lawful-basis" for answer in answers):
        raise no_lawful_basis(purpose)
    if lacking := [answer for answer in answers if not answer.permitted]:
        people = ", ".join(f"{answer.user_id} ({answer.reason})" for answer in lacking)
        raise refused(
            "consent-missing",
            f"Permission to {purpose} is missing for: {people}. Ask each of them and record their answer with "
            f"POST /api/consent/grant, or leave them out.",
        )
    return answers


def no_lawful_basis(purpose: Purpose) -> Exception:
    """The error if the tenant has no lawful basis for a purpose."""
    return refused(
        "no-lawful-basis",
        f"No lawful basis to {purpose} is in force: decide on one with POST /api/processing-activities.",
    )


async def _permissions(
    conn: Connection, user_ids: Sequence[UUID], purpose: Purpose, activity_sql: str, records_sql: str
) -> tuple[Permission, ...]:
    people = list(user_ids)
    known = await (await conn.execute("select id from users where id = any(%s)", (people,))).fetchall()
    if len(known) != len(set(people)):
        raise missing("person")
    activity = await (await conn.execute(activity_sql.encode(), (purpose,))).fetchone()
    if activity is None:
        return tuple(
            Permission(permitted=False, user_id=user_id, purpose=purpose, reason="no-lawful-basis")
            for user_id in people
        )
    found = await (await conn.execute(records_sql.encode(), (activity["id"], people))).fetchall()
    records = {row["data_subject_id"]: row for row in found}
    return tuple(_permission_of(user_id, purpose, activity, records.get(user_id)) for user_id in people)


def _permission_of(
    user_id: UUID, purpose: Purpose, activity: dict[str, Any], record: dict[str, Any] | None
) -> Permission:
    reason = _reason(activity["legal_basis"], record)
    return Permission(
        permitted=reason in ("consent-granted", "legal-basis"), user_id=user_id, purpose=purpose, reason=reason,
        legal_basis=activity["legal_basis"], activity_id=activity["id"], decided_by=activity["decided_by"],
        consent_record_id=record["id"] if record is not None else None,
    )  # fmt: skip


def _reason(legal_basis: str, record: dict[str, Any] | None) -> Reason:
    """A refusal counts on any legal basis; a consent is needed only if the basis is consent."""
    status = record["consent_status"] if record is not None else None
    if status == "refused":
        return "consent-refused"
    if status == "withdrawn":
        return "consent-withdrawn"
    if legal_basis != "consent":
        return "legal-basis"
    if status is None:
        return "consent-missing"
    if status == "granted" and record is not None and not record["lapsed"]:
        return "consent-granted"
    return "consent-requested" if status == "requested" else "consent-expired"
