"""Severity by the guide where the guide speaks: a table of cases written for it, and the labels of all corpora."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple, cast, get_args

import pytest

from models.contract.records import (
    CATEGORIES,
    SEVERITIES,
    Category,
    Concern,
    Conversation,
    Severity,
    Turn,
    TurnAssessment,
)
from models.text.severity_rules import least_severity, most_severity, with_rules
from training.dataset import NEVER_HELD_OUT, read_dataset


class Case(NamedTuple):
    """A line, its category and severity by the guide; `by_rule`: `floor` where a rule alone must reach `high`."""

    category: Category
    severity: Severity
    by_rule: str
    text: str


def cases() -> list[Case]:
    rows = (Path(__file__).parent / "severity_cases.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [Case(cast(Category, one), cast(Severity, two), *rest) for one, two, *rest in map(_cells, rows)]


def _cells(row: str) -> list[str]:
    return row.split("\t")


def rank(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def ruled(category: Category, read: Severity, *lines: str) -> Severity:
    """The severity of the last line's concern after the rules, where the model read `read`."""
    talk = Conversation(id="c", turns=tuple(Turn(speaker="S1", text=line) for line in lines))
    concern = Concern(category=category, severity=read, probability=0.9, threshold=0.1)
    quiet = TurnAssessment(scores={}, concerns=())
    rows = with_rules(talk, [*[quiet] * (len(lines) - 1), TurnAssessment(scores={}, concerns=(concern,))])
    return rows[-1].concerns[0].severity


def test_the_table_has_forty_cases_or_more_of_words_that_are_known() -> None:
    assert len(cases()) >= 40
    assert {case.category for case in cases()} <= set(CATEGORIES)
    assert {case.severity for case in cases()} == set(get_args(Severity))
    assert {case.by_rule for case in cases()} == {"floor", "none"}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.text[:50])
def test_no_rule_contradicts_the_guide(case: Case) -> None:
    assert ruled(case.category, case.severity, case.text) == case.severity


@pytest.mark.parametrize("case", [one for one in cases() if one.by_rule == "floor"], ids=lambda case: case.text[:50])
def test_what_the_guide_settles_is_not_read_lower(case: Case) -> None:
    least = (
        rank("high") if case.category in ("physical_abuse", "domestic_abuse", "sexual_abuse") else rank(case.severity)
    )
    assert rank(ruled(case.category, "low", case.text)) >= least


@pytest.mark.parametrize("case", [one for one in cases() if one.by_rule == "none"], ids=lambda case: case.text[:50])
def test_where_it_does_not_the_model_s_reading_stands(case: Case) -> None:
    for read in SEVERITIES[: rank("critical")]:
        assert ruled(case.category, read, case.text) == read


def test_what_is_over_is_not_critical_and_what_goes_on_may_be() -> None:
    assert ruled("physical_abuse", "critical", "He hit her.") == "high"
    assert ruled("physical_abuse", "critical", "He hit her.", "He hit her.") == "high"
    assert ruled("physical_abuse", "critical", "Help us.", "He hit her.") == "critical"
    assert ruled("neglect", "critical", "They left her on the floor.") == "critical"


def test_a_rule_speaks_of_its_own_category_alone() -> None:
    said = "He slapped her and I've saved my tablets for tonight."
    assert least_severity("physical_abuse", said) == "high"
    assert least_severity("self_harm", said) == "critical"
    assert least_severity("neglect", said) == "low"


def test_of_the_labelled_turns_hardly_any_is_put_above_its_label_and_no_critical_one_below() -> None:
    folders = [path for path in (Path("training") / "data").iterdir() if any(path.glob("*.jsonl"))]
    assert {folder.name for folder in NEVER_HELD_OUT} <= {folder.name for folder in folders}
    counted: Counter[str] = Counter()
    for item in read_dataset(*sorted(folders)):
        whole = " ".join(turn.text for turn in item.conversation.turns).replace("’", "'")
        for turn, labels, level in zip(item.conversation.turns, item.concerns, item.severity, strict=True):
            for at, category in enumerate(CATEGORIES):
                if labels[at] != 1 or level < 0:
                    continue
                least = rank(least_severity(category, turn.text.replace("’", "'")))
                counted["spoken of"] += least > 0
                counted["too high"] += least > level
                counted["too low"] += rank(most_severity(category, whole)) < level
    assert counted["spoken of"] >= 90
    assert counted["too high"] <= 0.05 * counted["spoken of"]
    assert counted["too low"] == 0
