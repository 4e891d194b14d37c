"""Evidence: which parts the trials remove, and which spans are shown after scoring."""

import numpy as np

from models.text.evidence import occlusions, phrases, pick_evidence
from models.text.safeguarding import SafeguardingModel
from tests.text_models import conversation, text_models

TALK = conversation("Did she sleep?", "Yes.", "He grabbed her by the wrist and pulled her off the bed.")


def test_phrases_cover_every_word_once_and_in_order() -> None:
    text = "  one two three four five,  six seven eight nine "
    spans = phrases(text)
    assert [text[start:end] for start, end in spans] == ["one two three four", "five,  six seven eight", "nine"]
    assert phrases("   ") == []
    assert len(phrases("word " * 500)) <= 6


def test_trials_take_away_each_phrase_and_each_of_two_earlier_turns() -> None:
    trials = occlusions(TALK, 2)
    assert trials[0].removed is None
    assert [turn.text for turn in trials[0].conversation.turns] == [turn.text for turn in TALK.turns]
    assert {trial.removed[0] for trial in trials if trial.removed} == {0, 1, 2}
    assert [len(trial.conversation.turns) for trial in trials if trial.removed and trial.removed[0] < 2] == [2, 2]


def test_spans_are_shown_by_how_far_they_moved_the_score_and_neighbours_are_joined() -> None:
    trials = occlusions(TALK, 2)
    texts = [turn.text for turn in TALK.turns]
    log_odds = np.zeros(len(trials), dtype=np.float32)
    log_odds[1:3] = (-3.0, -2.0)  # the turn's first two phrases
    [piece] = pick_evidence(trials, log_odds, texts)
    assert piece.text == "He grabbed her by the wrist and pulled"
    assert texts[piece.turn][piece.start : piece.end] == piece.text
    assert piece.weight == 5.0


def test_nothing_is_shown_where_nothing_lowered_the_score() -> None:
    trials = occlusions(TALK, 2)
    assert pick_evidence(trials, np.arange(len(trials), dtype=np.float32), [turn.text for turn in TALK.turns]) == ()


def test_deleting_the_evidence_lowers_the_score_more_than_deleting_other_words() -> None:
    model: SafeguardingModel = text_models().safeguarding
    said = "Morning all, lovely day out there, and the thing is he slapped her hard across the face and she was crying."
    [to_assessment] = model.score_with_evidence(conversation(said))
    concern = to_assessment.concerns[0]
    evidence = concern.evidence[0]
    without = said[: evidence.start] + said[evidence.end :]
    without_greeting = said.replace("Morning all, lovely day", "")
    [faithful], [other] = model.score([conversation(without), conversation(without_greeting)])
    assert faithful.scores[concern.category] < other.scores[concern.category]
