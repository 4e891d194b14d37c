"""Maps the concerns of a conversation to the statutory duties that they may trigger, with the turns that support them.

It is a table of rules over the safeguarding assessment, not a model. It decides nothing and notifies nobody: it names
the duty and its time limit, and a person decides whether the duty applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from models.contract.endpoints import ComplianceMatter, Duty
from models.contract.records import CATEGORIES, SEVERITIES, Category, Severity, TurnAssessment

# Abuse and improper treatment in the sense of Regulation 13(4) and (6): acts and omissions of others.
_ABUSE: Final[tuple[Category, ...]] = (
    "physical_abuse", "domestic_abuse", "sexual_abuse", "psychological_abuse", "financial_abuse", "modern_slavery",
    "discriminatory_abuse", "organisational_abuse", "neglect",
)  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    duty: Duty
    law: str
    clock: Literal["at once", "without delay", "as soon as reasonably practicable"]
    categories: tuple[Category, ...]
    from_severity: Severity


# In order of urgency. `low` is poor practice or an early sign without harm, `high` an allegation of an act: the
# severities are those of the corpus guide.
_RULES: Final[tuple[_Rule, ...]] = (
    _Rule("emergency_services", "Danger now, or a crime that calls for 999", "at once", CATEGORIES, "critical"),
    _Rule(
        "cqc_regulation_13",
        "Health and Social Care Act 2008 (Regulated Activities) Regulations 2014, reg. 13(3): investigate",
        "at once", (*_ABUSE, "restrictive_practice"), "low",
    ),
    _Rule(
        "cqc_regulation_18",
        "Care Quality Commission (Registration) Regulations 2009, reg. 18(2)(e): notify abuse or allegation of abuse",
        "without delay", _ABUSE, "medium",
    ),
    _Rule(
        "cqc_regulation_18",
        "Care Quality Commission (Registration) Regulations 2009, reg. 18(2)(a): notify serious injury",
        "without delay", ("falls_injury",), "high",
    ),
    _Rule(
        "care_act_section_42",
        "Care Act 2014, s. 42: enquiry by the local authority",
        "without delay", (*_ABUSE, "self_neglect"), "high",
    ),
    _Rule(
        "mental_capacity_act_2005",
        "Mental Capacity Act 2005, ss. 4A to 6: lawful authority for a restraint or deprivation of liberty",
        "without delay", ("restrictive_practice",), "low",
    ),
    _Rule(
        "cqc_regulation_20",
        "Health and Social Care Act 2008 (Regulated Activities) Regulations 2014, reg. 20: duty of candour",
        "as soon as reasonably practicable", ("falls_injury", "medication_error"), "high",
    ),
)  # fmt: skip


def compliance_matters(turns: Sequence[TurnAssessment]) -> tuple[ComplianceMatter, ...]:
    """The duties that the turns' concerns may call for, most urgent first; empty where there is no concern."""
    return tuple(matter for rule in _RULES if (matter := _matter(rule, turns)) is not None)


def _matter(rule: _Rule, turns: Sequence[TurnAssessment]) -> ComplianceMatter | None:
    least = SEVERITIES.index(rule.from_severity)
    found = [
        (position, concern)
        for position, turn in enumerate(turns)
        for concern in turn.concerns
        if concern.category in rule.categories and SEVERITIES.index(concern.severity) >= least
    ]
    if not found:
        return None
    return ComplianceMatter(
        duty=rule.duty,
        law=rule.law,
        clock=rule.clock,
        categories=tuple(name for name in CATEGORIES if any(concern.category == name for _, concern in found)),
        severity=max((concern.severity for _, concern in found), key=SEVERITIES.index),
        probability=max(concern.probability for _, concern in found),
        turns=tuple(sorted({position for position, _ in found})),
    )
