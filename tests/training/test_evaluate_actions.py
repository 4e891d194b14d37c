"""The evaluation of action items: which due times and actions match those of the annotators."""

from typing import Any

import pytest

from models.contract.records import ActionItem
from training.evaluate_actions import action_figures, compare_turn, due_agrees


@pytest.mark.parametrize(
    ("told", "written", "agrees"),
    [
        (None, None, True),
        ("now", None, False),
        (None, "today", False),
        ("at 8 tmrw", "eight tomorrow", True),
        ("before I go off", "before she goes off", True),
        ("as soon as we hang up", "when the call ends", True),
        ("this minute", "now", True),
        ("thurs", "Thursday at eleven", True),
        ("this afternoon", "tonight", False),
        ("by five", "by six", False),
    ],
)
def test_due_times_agree_in_sense(told: str | None, written: str | None, agrees: bool) -> None:
    assert due_agrees(told, written) is agrees


def _item(text: str, due: str | None, owner: str = "S1") -> ActionItem:
    return ActionItem(turn=0, text=text, owner=owner, due=due)


def _written(text: str, due: str | None) -> dict[str, Any]:
    return {"turn": 0, "text": text, "owner": "S1", "due": due}


def test_two_deeds_written_as_one_need_the_due_of_one_of_them() -> None:
    judged = compare_turn(
        0, 0, [_written("Write it up and ask her", "now")], [_item("Write it up", "now"), _item("Ask her", None)]
    )
    assert (judged.owner, judged.due) == (True, True)


def test_every_written_action_needs_its_own_due() -> None:
    written = [_written("Ring the GP", "today"), _written("Tell the manager", "tomorrow")]
    swapped = [_item("Ring the GP", "tomorrow"), _item("Tell the manager", "today")]
    assert not compare_turn(0, 0, written, swapped).due
    assert not compare_turn(0, 0, written, swapped[:1]).due
    assert not compare_turn(0, 0, written, []).owner


def test_the_figures_are_shares_of_turns() -> None:
    right = compare_turn(0, 0, [_written("Ring", "today")], [_item("Ring", "today")])
    wrong = compare_turn(1, 0, [_written("Ring", "today")], [_item("Ring", None, owner="S2")])
    figures = action_figures([right, wrong])
    assert (figures["turns"], figures["owner_and_due"]["value"]) == (2, 0.5)
