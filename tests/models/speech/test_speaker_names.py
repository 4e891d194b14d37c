"""Speaker names: proposed only with clear evidence, and each name for at most one voice."""

import numpy as np

from models.contract.records import Turn
from models.speech.speaker_names import match_one_to_one, propose_names


def said(*lines: tuple[str | None, str]) -> list[Turn]:
    return [Turn(speaker=speaker, text=text) for speaker, text in lines]


def named(turns: list[Turn], names: list[str]) -> dict[str, str]:
    return {found.speaker: names[found.participant] for found in propose_names(turns, names)}


def test_who_says_their_name_is_proposed_and_the_other_follows() -> None:
    turns = said(
        ("Speaker 1", "Hello, Rose Lodge, Karen speaking."),
        ("Speaker 2", "Oh hello Karen, it's about Mum."),
        ("Speaker 1", "Of course."),
    )
    names = ["Denise Hall", "Karen Shaw"]
    assert named(turns, names) == {"Speaker 1": "Karen Shaw", "Speaker 2": "Denise Hall"}
    first, second = propose_names(turns, names)
    assert first.utterances == (0, 1)
    assert second.utterances == ()


def test_who_is_called_by_name_and_answers_is_proposed() -> None:
    turns = said(
        ("Speaker 1", "Morning Dot, how did you sleep?"),
        ("Speaker 2", "Not so well."),
        ("Speaker 1", "Thanks for telling me, Dot."),
        ("Speaker 2", "You are kind."),
    )
    assert named(turns, ["Dot Ames", "Priya Nair", "Tom Reid"])["Speaker 2"] == "Dot Ames"


def test_where_nobody_is_named_nobody_is_proposed() -> None:
    turns = said(("Speaker 1", "How was lunch?"), ("Speaker 2", "Cold again."))
    assert propose_names(turns, ["Dot Ames", "Priya Nair"]) == ()


def test_speaking_of_somebody_does_not_make_one_that_person() -> None:
    turns = said(
        ("Speaker 1", "I saw that Dot had fallen in the corridor."),
        ("Speaker 2", "And was it Dot who pressed the bell?"),
        ("Speaker 3", "Yes."),
    )
    assert "Speaker 1" not in named(turns, ["Dot Ames", "Priya Nair", "Tom Reid"])


def test_a_first_name_that_two_people_share_tells_nothing() -> None:
    turns = said(("Speaker 1", "Hi, it's Karen."), ("Speaker 2", "Hello."))
    assert propose_names(turns, ["Karen Shaw", "Karen Bell"]) == ()


def test_each_person_is_proposed_for_one_voice_at_most() -> None:
    turns = said(("Speaker 1", "It's Karen."), ("Speaker 2", "It's Karen here as well."), ("Speaker 3", "Right."))
    found = propose_names(turns, ["Karen Shaw", "Priya Nair", "Tom Reid"])
    assert len({one.participant for one in found}) == len(found)


def test_words_that_belong_to_no_voice_and_empty_calls_are_no_trouble() -> None:
    assert propose_names([], ["Karen Shaw"]) == ()
    assert propose_names(said((None, "It's Karen.")), ["Karen Shaw"]) == ()
    assert propose_names(said(("Speaker 1", "")), []) == ()


def test_more_voices_than_names_leave_voices_unnamed() -> None:
    pairs = match_one_to_one(np.array([[5.0], [0.0], [-5.0]]))
    assert [(row, column) for row, column, _ in pairs] == [(0, 0)]
    assert pairs[0][2] > 0.95
