"""All text models together: one analysis for each conversation, also for unusual ones."""

import json

import pytest

from models.contract.records import CATEGORIES, Conversation, Turn
from models.text.analysis import analyse, analyse_many
from tests.text_models import conversation, text_models

HANDOVER = conversation(
    "Evening. Ken ate well and had his bath.",
    "Good. Anything else?",
    "When I went in this morning Winnie's arm was black and blue and she says the night carer grabbed her and hit her.",
    "Thank you for telling me. I'll ring the safeguarding team this afternoon and write it up.",
)


def test_each_turn_gets_all_scores_and_a_sentiment_and_every_model_is_named() -> None:
    analysis = analyse(HANDOVER, text_models())
    assert len(analysis.turns) == len(HANDOVER.turns)
    assert all(set(turn.scores) == {*CATEGORIES, "any"} for turn in analysis.turns)
    assert all(abs(sum(turn.sentiment.probabilities.values()) - 1.0) < 1e-4 for turn in analysis.turns)
    assert set(analysis.models) == {"turn_encoder", "safeguarding", "sentiment", "actions", "risk", "summarisation"}


def test_a_plain_disclosure_is_found_explained_and_answered() -> None:
    analysis = analyse(HANDOVER, text_models())
    concerns = {concern.category: concern for concern in analysis.turns[2].concerns}
    assert "physical_abuse" in concerns
    assert any("hit her" in piece.text or "grabbed" in piece.text for piece in concerns["physical_abuse"].evidence)
    assert analysis.risk.level in {"medium", "high", "critical"}
    assert [(action.turn, action.owner, action.due) for action in analysis.actions][:1] == [(3, "S2", "this afternoon")]
    assert 2 in {turn for sentence in analysis.summary.sentences for turn in sentence.turns}


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (Turn(speaker="S1", text=""),),
        (Turn(speaker=None, text=""), Turn(speaker="S9", text="   ")),
        (Turn(speaker="S1", text="😀"), Turn(speaker="S1", text="\u0000\u200b")),
    ],
    ids=["no turns", "one empty turn", "blank turns", "no letters"],
)
def test_a_conversation_that_says_nothing_is_analysed_as_nothing(turns: tuple[Turn, ...]) -> None:
    analysis = analyse(Conversation(id="quiet", turns=turns), text_models())
    assert len(analysis.turns) == len(turns)
    assert analysis.risk.level == "none"
    assert analysis.summary.text == ""
    assert analysis.actions == ()


def test_a_monologue_is_read_to_its_end() -> None:
    filler = "and then we had a cup of tea and talked about the weather and her garden and the cat. " * 40
    told = analyse(
        conversation(filler + "He punched her in the face and threw her on the floor, there was blood everywhere."),
        text_models(),
    )
    assert told.turns[0].scores["any"] > 0.3


def test_many_together_are_read_as_each_alone() -> None:
    models = text_models()
    others = [conversation("Morning.", "Tea or coffee?", name="short"), HANDOVER]
    together = analyse_many(others, models)
    assert [analysis.id for analysis in together] == ["short", "c"]
    alone = analyse(HANDOVER, models)
    for ours, theirs in zip(together[1].turns, alone.turns, strict=True):
        assert ours.scores["any"] == pytest.approx(theirs.scores["any"], abs=0.05)


def test_what_is_said_of_the_same_conversation_twice_is_the_same() -> None:
    first, second = (analyse(HANDOVER, text_models()) for _ in range(2))
    assert json.loads(first.model_dump_json()) == json.loads(second.model_dump_json())
