"""Lawful bases: for which purpose a tenant processes people's words, on which legal basis, and who decided it.

Articles are of the UK GDPR; 'Sch. 1' is of the Data Protection Act 2018. Conversations about care contain health data,
so every purpose needs a condition of article 9 and a basis of article 6.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.text_types import Name, Words
from models.contract.errors import conflict, invalid, missing
from models.contract.records import Record

Purpose = Literal["record", "transcribe", "analyse", "train", "voiceprint"]
LegalBasis = Literal[
    "consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests",
    "recognised_legitimate_interest",
]  # fmt: skip
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

# Consent to the use of health data must be explicit (article 9(2)(a)), so the basis consent implies this condition.
_EXPLICIT_CONSENT: Final = "explicit_consent"


class ProposedActivity(Record):
    """A legal basis that is considered for a purpose."""

    activity_type: Purpose
    legal_basis: LegalBasis
    special_category_condition: Name | None = Field(
        default=None, max_length=200, description="Article 9 condition, e.g. 'DPA 2018 Sch. 1 para. 18'."
    )


class NewProcessingActivity(ProposedActivity):
    """A lawful basis to put in force. It replaces the one in force for this purpose."""

    purpose: Words = Field(min_length=1, max_length=2000, description="Why, in words that residents understand.")
    data_categories: tuple[Annotated[Name, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=100
    )
    retention_period_days: int | None = Field(default=None, gt=0, le=36500)
    description: Words | None = Field(default=None, max_length=10_000, description="Necessity, balance, safeguards.")


class ProcessingActivity(NewProcessingActivity):
    """A lawful basis as it was decided. It is in force until `ended_at`."""

    special_category_condition: str | None
    purpose: str
    data_categories: tuple[str, ...]
    description: str | None
    id: UUID
    decided_by: UUID
    created_at: datetime
    ended_at: datetime | None


class Assessment(Record):
    """The result for a proposed basis: `problems` (it cannot be used like this) and `advice` (what to consider)."""

    activity_type: Purpose
    legal_basis: LegalBasis
    special_category_condition: str | None
    sound: bool
    problems: tuple[str, ...]
    advice: tuple[str, ...]


_COLUMNS: Final = (
    "id, activity_type, purpose, legal_basis, special_category_condition, data_categories, retention_period_days, "
    "description, decided_by, created_at, ended_at"
)


def assess(ground: ProposedActivity) -> Assessment:
    """Checks the rules of law that a program can check. A person must decide whether the reasons are good."""
    condition = ground.special_category_condition
    if condition is None and ground.legal_basis == "consent":
        condition = _EXPLICIT_CONSENT
    problems, advice = [], []
    if condition is None:
        problems.append(
            "Conversations about care contain health data: give the condition of article 9 in "
            "special_category_condition, for safeguarding usually 'DPA 2018 Sch. 1 para. 18'."
        )
    if ground.activity_type in ("train", "voiceprint") and ground.legal_basis in (
        "vital_interests",
        "recognised_legitimate_interest",
    ):
        problems.append(
            f"{ground.legal_basis} covers only immediate protection: choose another legal basis for "
            f"{ground.activity_type}."
        )
    if ground.activity_type == "voiceprint" and condition != _EXPLICIT_CONSENT:
        advice.append("A voiceprint is biometric data (article 9(1)): explicit consent is the usual condition.")
    if ground.legal_basis == "legitimate_interests":
        advice.append("Write the balancing test into `description` (article 6(1)(f)); people may object (article 21).")
    if ground.legal_basis == "consent":
        advice.append("Consent must be free: a person who refuses must get the same care (article 7(4)).")
    if ground.legal_basis == "vital_interests":
        advice.append("Vital interests apply only while the person cannot give consent (article 9(2)(c)).")
    return Assessment(
        activity_type=ground.activity_type, legal_basis=ground.legal_basis, special_category_condition=condition,
        sound=not problems, problems=tuple(problems), advice=tuple(advice),
    )  # fmt: skip


async def decide_ground(conn: Connection, actor: Actor, new: NewProcessingActivity) -> ProcessingActivity:
    """Puts a lawful basis in force and ends the present one; raises `invalid` (`legal-basis-unsound`), a conflict
    (`ground-just-decided`).

    Consent that was given under the previous basis does not count for the new one.
    """
    assessment = assess(new)
    if not assessment.sound:
        raise invalid("legal-basis-unsound", " ".join(assessment.problems))
    await conn.execute(
        "update data_processing_activities set ended_at = now() where activity_type = %s and ended_at is null",
        (new.activity_type,),
    )
    made = await conn.execute(
        "insert into data_processing_activities (tenant_id, activity_type, purpose, legal_basis, "  # noqa: S608
        "special_category_condition, data_categories, retention_period_days, description, decided_by) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
        f"on conflict (tenant_id, activity_type) where ended_at is null do nothing returning {_COLUMNS}",
        (
            actor.tenant_id, new.activity_type, new.purpose, new.legal_basis, assessment.special_category_condition,
            list(new.data_categories), new.retention_period_days, new.description, actor.user_id,
        ),
    )  # fmt: skip
    row = await made.fetchone()
    if row is None:
        raise conflict("ground-just-decided", "Another person has just changed this lawful basis: read it again.")
    activity = ProcessingActivity.model_validate(row)
    details = {"purpose": activity.activity_type, "legal_basis": activity.legal_basis}
    await record_act(conn, actor, "ground.decided", ("processing_activity", activity.id), details)
    return activity


async def end_ground(conn: Connection, actor: Actor, activity_id: UUID) -> None:
    """Ends a lawful basis, so that its purpose has none; raises `missing`. Ending it twice is no error."""
    activity = await read_ground(conn, activity_id)
    if activity.ended_at is None:
        await conn.execute("update data_processing_activities set ended_at = now() where id = %s", (activity_id,))
        await record_act(
            conn, actor, "ground.ended", ("processing_activity", activity_id), {"purpose": activity.activity_type}
        )


async def read_ground(conn: Connection, activity_id: UUID) -> ProcessingActivity:
    """Returns the lawful basis with this id, in force or ended; raises `missing`."""
    found = await conn.execute(
        f"select {_COLUMNS} from data_processing_activities where id = %s",  # noqa: S608 (a constant)
        (activity_id,),
    )
    row = await found.fetchone()
    if row is None:
        raise missing("processing activity")
    return ProcessingActivity.model_validate(row)


async def list_grounds(
    conn: Connection, *, purpose: Purpose | None, in_force: bool, before: UUID, limit: int
) -> list[ProcessingActivity]:
    """Lists lawful bases with an id before `before`, newest first; `in_force`: only those in force now."""
    found = await conn.execute(
        f"select {_COLUMNS} from data_processing_activities "  # noqa: S608 (a constant)
        "where id < %(before)s and (%(purpose)s::text is null or activity_type = %(purpose)s) "
        "and (not %(in_force)s or ended_at is null) order by id desc limit %(limit)s",
        {"before": before, "purpose": purpose, "in_force": in_force, "limit": limit},
    )
    return [ProcessingActivity.model_validate(row) for row in await found.fetchall()]
