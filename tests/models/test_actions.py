"""Actions: the promise cut out of the speaker's own words."""

import pytest

from models.actions import promises
from models.due import find_due
from tests.readers import conversation, text_models


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("I'll ring the surgery at four.", ["ring the surgery at four"]),
        ("right i'm ringing the police now and i'll check the rota", ["ringing the police now", "check the rota"]),
        ("calling 999 now", ["calling 999 now"]),
        ("I'm really glad you told me.", []),
        ("I'm on it.", []),
        ("She rang them yesterday.", []),
        ("Could you ring them?", []),
    ],
)
def test_promises_are_found_in_the_words(said: str, expected: list[str]) -> None:
    assert promises(said) == expected


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ("I'll do it this afternoon", "this afternoon"),
        ("I'll ring the surgery by four tomorrow", "by four tomorrow"),
        ("ill ring surgery at 8 tmrw", "at 8 tmrw"),
        ("first thing in the morning I'll tell Gwen", "first thing in the morning"),
        ("as soon as we hang up I'll move her", "as soon as we hang up"),
        ("I'll be there in 20 minutes", "in 20 minutes"),
        ("she takes two of the white ones", None),
        ("I now know why", "now"),
    ],
)
def test_due_times_are_given_as_said(said: str, due: str | None) -> None:
    span = find_due(said)
    assert (None if span is None else said[slice(*span)].startswith(due or " ")) in (
        (None,) if due is None else (True,)
    )


def test_who_promised_owns_it_and_the_text_is_an_instruction() -> None:
    asked = conversation("Can you let her daughter know?", "Yes, I'll ring her daughter this evening and tell her.")
    [action] = text_models().actions.extract(asked)
    assert (action.turn, action.owner, action.due) == (1, "S2", "this evening")
    assert action.text == "Ring her daughter and tell her"


@pytest.mark.parametrize(
    "said",
    ["I rang the GP yesterday and she came.", "I wish somebody would fix that door.", "Shall we have the window open?"],
    ids=["done", "wished", "asked"],
)
def test_done_wished_and_asked_is_no_action(said: str) -> None:
    assert text_models().actions.extract(conversation("How are things?", said)) == ()
