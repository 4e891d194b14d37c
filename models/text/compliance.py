"""Maps the concerns of a conversation to the statutory duties that they may trigger, with the turns that support them.

It is a table of rules over the safeguarding assessment, not a model. It decides nothing and notifies nobody: it names
the duty and its time limit, and a person decides whether the duty applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from models.contract.endpoints import ComplianceMatter, Duty
from models.contract.records import CATEGORIES, SEVERITIES, Category, Concern, Severity, TurnAssessment

# Abuse and improper treatment in the sense of Regulation 13(4) and (6): acts and omissions of others.
_ABUSE: Final[tuple[Category, ...]] = (
    "physical_abuse", "domestic_abuse", "sexual_abuse", "psychological_abuse", "financial_abuse", "modern_slavery",
    "discriminatory_abuse", "organisational_abuse", "neglect",
)  # fmt: skip


_SERIOUS_INJURY: Final[tuple[Category, ...]] = ("falls_injury", "medication_error", "self_harm")
_FAILED_IN_CARE: Final[tuple[Category, ...]] = ("neglect", "organisational_abuse")


@dataclass(frozen=True)
class _Limb:
    """Part of a duty: from `from_severity`, a concern of one of `categories` calls for it.

    `beside`: only where a concern of one of these is voiced in the same conversation, whatever its severity.
    """

    law: str
    categories: tuple[Category, ...]
    from_severity: Severity
    beside: tuple[Category, ...] = ()


@dataclass(frozen=True)
class _Rule:
    """A duty of the Act or regulations that `law` names, and the limbs by which it may arise."""

    duty: Duty
    law: str
    clock: Literal["at once", "without delay", "as soon as reasonably practicable"]
    limbs: tuple[_Limb, ...]


# In order of urgency. The severities are those of the corpus guide: `low` is poor practice or an early sign without
# harm, `high` serious harm or an allegation of an act. Sources and reasons: docs/decisions/0047.
_RULES: Final[tuple[_Rule, ...]] = (
    _Rule(
        "emergency_services", "", "at once",
        (
            _Limb("Danger now, or a crime that calls for 999", CATEGORIES, "critical"),
            _Limb("A missing person in danger: report to the police", ("missing_person",), "high"),
        ),
    ),
    _Rule(
        "cqc_regulation_13",
        "Health and Social Care Act 2008 (Regulated Activities) Regulations 2014, reg. ", "at once",
        (_Limb("13(3): investigate", (*_ABUSE, "restrictive_practice"), "low"),),
    ),
    _Rule(
        "cqc_regulation_18", "Care Quality Commission (Registration) Regulations 2009, reg. ", "without delay",
        (
            _Limb("18(2)(e): notify abuse or allegation of abuse", _ABUSE, "medium"),
            _Limb("18(2)(e): notify abuse or allegation of abuse", ("restrictive_practice",), "high"),
            _Limb("18(2)(a) and (b): notify serious injury", _SERIOUS_INJURY, "high"),
            _Limb("18(2)(f): notify an incident reported to the police", ("missing_person",), "high"),
        ),
    ),
    _Rule(
        "care_act_section_42", "Care Act 2014, s. 42: enquiry by the local authority", "without delay",
        (
            _Limb("", (*_ABUSE, "self_neglect", "restrictive_practice"), "high"),
            _Limb("", ("missing_person",), "high", beside=_FAILED_IN_CARE),
        ),
    ),
    _Rule(
        "mental_capacity_act_2005", "Mental Capacity Act 2005, ss. 4A to 6: ", "without delay",
        (
            _Limb(
                "lawful authority for a restraint or deprivation of liberty", ("restrictive_practice",), "low",
            ),
        ),
    ),
    _Rule(
        "cqc_regulation_20",
        "Health and Social Care Act 2008 (Regulated Activities) Regulations 2014, reg. ",
        "as soon as reasonably practicable",
        (_Limb("20: duty of candour", ("falls_injury", "medication_error"), "high"),),
    ),
)  # fmt: skip


def compliance_matters(turns: Sequence[TurnAssessment]) -> tuple[ComplianceMatter, ...]:
    """The duties that the turns' concerns may call for, most urgent first; empty where there is no concern.

    One matter a duty; `law` names each limb by which it may arise.
    """
    return tuple(matter for rule in _RULES if (matter := _matter(rule, turns)) is not None)


def _matter(rule: _Rule, turns: Sequence[TurnAssessment]) -> ComplianceMatter | None:
    by_limb = [(limb, _called_for(limb, turns)) for limb in rule.limbs]
    found = [piece for _, pieces in by_limb for piece in pieces]
    if not found:
        return None
    limbs = dict.fromkeys(limb.law for limb, pieces in by_limb if pieces)
    return ComplianceMatter(
        duty=rule.duty,
        law=rule.law + "; ".join(limbs),
        clock=rule.clock,
        categories=tuple(name for name in CATEGORIES if any(concern.category == name for _, concern in found)),
        severity=max((concern.severity for _, concern in found), key=SEVERITIES.index),
        probability=max(concern.probability for _, concern in found),
        turns=tuple(sorted({position for position, _ in found})),
    )


def _called_for(limb: _Limb, turns: Sequence[TurnAssessment]) -> list[tuple[int, Concern]]:
    """The concerns, with their turns, for which the limb may arise."""
    voiced = [(position, concern) for position, turn in enumerate(turns) for concern in turn.concerns]
    if limb.beside and not any(concern.category in limb.beside for _, concern in voiced):
        return []
    least = SEVERITIES.index(limb.from_severity)
    return [
        (position, concern)
        for position, concern in voiced
        if concern.category in limb.categories and SEVERITIES.index(concern.severity) >= least
    ]
