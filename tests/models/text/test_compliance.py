"""Compliance: duties follow from categories and severities and cite their turns; a person decides."""

import pytest

from models.contract.endpoints import Duty
from models.contract.records import CATEGORIES, Category, Concern, Severity, TurnAssessment
from models.text.compliance import compliance_matters


def turn(*found: tuple[Category, Severity], probability: float = 0.8) -> TurnAssessment:
    concerns = tuple(
        Concern(category=category, severity=severity, probability=probability, threshold=0.4)
        for category, severity in found
    )
    return TurnAssessment(scores=dict.fromkeys((*CATEGORIES, "any"), 0.1), concerns=concerns)


def duties(*found: tuple[Category, Severity]) -> list[Duty]:
    return [matter.duty for matter in compliance_matters([turn(*found)])]


def test_where_no_concern_is_voiced_no_duty_arises() -> None:
    assert compliance_matters([turn(), turn()]) == ()
    assert compliance_matters([]) == ()


@pytest.mark.parametrize(
    ("category", "severity", "expected"),
    [
        ("physical_abuse", "low", ["cqc_regulation_13"]),
        ("physical_abuse", "medium", ["cqc_regulation_13", "cqc_regulation_18"]),
        ("neglect", "high", ["cqc_regulation_13", "cqc_regulation_18", "care_act_section_42"]),
        ("self_neglect", "high", ["care_act_section_42"]),
        ("self_neglect", "medium", []),
        ("falls_injury", "medium", []),
        ("falls_injury", "high", ["cqc_regulation_18", "cqc_regulation_20"]),
        ("medication_error", "medium", []),
        ("medication_error", "high", ["cqc_regulation_18", "cqc_regulation_20"]),
        ("restrictive_practice", "low", ["cqc_regulation_13", "mental_capacity_act_2005"]),
        (
            "restrictive_practice",
            "high",
            ["cqc_regulation_13", "cqc_regulation_18", "care_act_section_42", "mental_capacity_act_2005"],
        ),
        ("self_harm", "medium", []),
        ("self_harm", "high", ["cqc_regulation_18"]),
        ("self_harm", "critical", ["emergency_services", "cqc_regulation_18"]),
        ("missing_person", "medium", []),
        ("missing_person", "high", ["emergency_services", "cqc_regulation_18"]),
        ("missing_person", "critical", ["emergency_services", "cqc_regulation_18"]),
    ],
)
def test_a_concern_of_a_severity_calls_for(category: Category, severity: Severity, expected: list[Duty]) -> None:
    assert duties((category, severity)) == expected


def test_a_matter_cites_every_turn_it_rests_on_and_leaves_the_decision_to_a_person() -> None:
    turns = [
        turn(("neglect", "medium"), probability=0.5),
        turn(),
        turn(("physical_abuse", "high"), ("neglect", "low"), probability=0.9),
    ]
    notify = next(matter for matter in compliance_matters(turns) if matter.duty == "cqc_regulation_18")
    assert notify.turns == (0, 2)
    assert notify.categories == ("physical_abuse", "neglect")
    assert (notify.severity, notify.probability) == ("high", 0.9)
    assert notify.clock == "without delay"
    assert notify.decision == "for a person to decide"
    referral = next(matter for matter in compliance_matters(turns) if matter.duty == "care_act_section_42")
    assert (referral.turns, referral.categories) == ((2,), ("physical_abuse",))


def test_a_duty_is_named_once_with_each_limb_by_which_it_arises() -> None:
    turns = [turn(("physical_abuse", "high")), turn(("falls_injury", "high")), turn(("missing_person", "critical"))]
    matters = compliance_matters(turns)
    named = [matter.duty for matter in matters]
    assert len(set(named)) == len(named)
    notify = next(matter for matter in matters if matter.duty == "cqc_regulation_18")
    assert notify.law == (
        "Care Quality Commission (Registration) Regulations 2009, reg. 18(2)(e): notify abuse or allegation of abuse; "
        "18(2)(a) and (b): notify serious injury; 18(2)(f): notify an incident reported to the police"
    )
    assert notify.turns == (0, 1, 2)


def test_who_is_missing_through_neglect_is_a_matter_for_the_local_authority() -> None:
    gone = turn(("missing_person", "high"))
    assert "care_act_section_42" not in [matter.duty for matter in compliance_matters([gone])]
    referral = next(
        matter
        for matter in compliance_matters([turn(("neglect", "medium")), gone])
        if matter.duty == "care_act_section_42"
    )
    assert (referral.turns, referral.categories) == ((1,), ("missing_person",))
