"""Action items: promises extracted from the speaker's words."""

import pytest

from models.artefacts.weights import spacy_model
from models.text.actions import CommitmentExtractor, promised_clauses
from models.text.deadlines import find_deadline
from tests.text_models import conversation, text_models


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
        ("I'll stop this now and get the GP at four", ["stop this now", "get the GP at four"]),
        ("she won't be on tonight", ["she won't be on tonight"]),
    ],
)
def test_promises_are_found_in_the_words(said: str, expected: list[str]) -> None:
    assert promised_clauses(said) == expected


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ("I'll do it this afternoon", "this afternoon"),
        ("I'll ring the surgery by four tomorrow", "by four tomorrow"),
        ("ill ring surgery at 8 tmrw", "at 8 tmrw"),
        ("first thing in the morning I'll tell Gwen", "first thing in the morning"),
        ("as soon as we hang up I'll move her", "as soon as we hang up"),
        ("I'll be there in 20 minutes", "in 20 minutes"),
        ("I'll speak to him before his shift tonight", "before his shift tonight"),
        ("I'll ring her when I'm back at base and write it up", "when I'm back at base"),
        ("I'll lock them away as soon as I put the phone down", "as soon as I put the phone down"),
        ("I'll take the block off once you've e-mailed it", "once you've e-mailed it"),
        ("I'll be there at 9.15", "at 9.15"),
        ("drop it 8ish", "8ish"),
        ("I'll put that on Thursday's list", "Thursday's"),
        ("I'm out your way on the fifth", "the fifth"),
        ("I'll come on the second Tuesday of next month", "the second Tuesday of next month"),
        ("I'll take her off the rota as of tonight", "as of tonight"),
        ("I'd like to see you again in a month", "in a month"),
        ("I'll walk it the day before", "the day before"),
        ("I'm dropping it back now before my next one", "now"),
        ("I'm phoning the surgery for a same day visit", None),
        ("she weighs 58.25 kg", None),
        ("I'm ten minutes away", None),
        ("she takes two of the white ones", None),
        ("I now know why", "now"),
    ],
)
def test_due_times_are_given_as_said(said: str, due: str | None) -> None:
    span = find_deadline(said)
    assert (None if span is None else said[slice(*span)].startswith(due or " ")) in (
        (None,) if due is None else (True,)
    )


def test_who_promised_owns_it_and_the_text_is_an_instruction() -> None:
    asked = conversation("Can you let her daughter know?", "Yes, I'll ring her daughter this evening and tell her.")
    [action] = text_models().actions.extract(asked)
    assert (action.turn, action.owner, action.due) == (1, "S2", "this evening")
    assert action.text == "Ring her daughter and tell her"


@pytest.mark.parametrize(
    ("asked", "answered", "dues"),
    [
        ("Could you pull the rota for me by eleven?", "Will do, I'll print it.", ["by eleven"]),
        ("I'm calling the GP at eight.", "I'll call his daughter myself.", [None]),
        ("He's not breathing right.", "I'm ringing 999.", ["now"]),
        ("He's not breathing right.", "I'm sending Paul home now and calling the hub.", ["now", "now"]),
        ("Is she all right?", "I'm on at two so I'll sit with her then.", ["at two"]),
        ("Is she all right?", "I'm off till four. I'm staying on then.", ["till four"]),
        ("Who will wash her in the morning?", "We'll make sure that the council knows.", [None]),
        ("Have them sent up today, please. The audit is on the 1st.", "I'll send them up.", ["today"]),
        ("The audit was on the 1st.", "I'll send them up.", [None]),
        ("Is she all right?", "The ramp is in now. I'll keep a pew for her.", [None]),
    ],
    ids=[
        "asked for",
        "the other's own promise",
        "being done",
        "done in one go",
        "said before",
        "before a then",
        "asked who will",
        "the sentence that asks",
        "told only",
        "about something else",
    ],
)
def test_due_times_said_around_the_promise(asked: str, answered: str, dues: list[str | None]) -> None:
    reader = CommitmentExtractor.load(spacy_model())
    assert [item.due for item in reader.items(conversation(asked, answered), 1)] == dues


@pytest.mark.parametrize(
    "said",
    ["I rang the GP yesterday and she came.", "I wish somebody would fix that door.", "Shall we have the window open?"],
    ids=["done", "wished", "asked"],
)
def test_done_wished_and_asked_is_no_action(said: str) -> None:
    assert text_models().actions.extract(conversation("How are things?", said)) == ()
