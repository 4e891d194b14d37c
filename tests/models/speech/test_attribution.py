"""Attribution: a word goes to the turn that covers it, in doubt to that of its sentence, else to nobody."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.contract.records import SpeakerTurn, Transcript, Word
from models.speech import attribution


def words(*items: tuple[str, float, float]) -> list[Word]:
    return [Word(word=text, start_seconds=start, end_seconds=end, confidence=0.9) for text, start, end in items]


def turn(speaker: str, start: float, end: float) -> SpeakerTurn:
    return SpeakerTurn(speaker=speaker, start_seconds=start, end_seconds=end)


def transcribed(spoken: list[Word], turns: list[SpeakerTurn], duration: float = 20.0) -> Transcript:
    return attribution.transcript(spoken, turns, duration_seconds=duration, language="en", models={})


def test_each_word_goes_to_the_turn_that_covers_it() -> None:
    spoken = words(("Is", 0.0, 0.2), ("she", 0.2, 0.4), ("hurt?", 0.4, 0.8), ("Yes.", 1.2, 1.5))
    found = transcribed(spoken, [turn("a", 0.0, 0.9), turn("b", 1.1, 1.6)])
    assert [word.speaker for word in found.words] == ["Speaker 1"] * 3 + ["Speaker 2"]
    assert [(one.speaker, one.text) for one in found.utterances] == [
        ("Speaker 1", "Is she hurt?"),
        ("Speaker 2", "Yes."),
    ]


def test_a_word_far_from_every_turn_stays_blank() -> None:
    found = transcribed(words(("hello", 10.0, 10.4)), [turn("a", 0.0, 2.0)])
    assert found.words[0].speaker is None
    assert found.utterances[0].speaker is None
    assert found.speakers == ()


def test_a_word_just_outside_a_turn_goes_to_it() -> None:
    found = transcribed(words(("hello.", 2.1, 2.4)), [turn("a", 0.0, 2.0), turn("b", 5.0, 6.0)])
    assert found.words[0].speaker == "Speaker 1"


def test_a_word_that_two_voices_cover_alike_stays_blank() -> None:
    found = transcribed(words(("help", 1.0, 1.5)), [turn("a", 0.0, 3.0), turn("b", 0.0, 3.0)])
    assert found.words[0].speaker is None


def test_the_sentence_decides_where_voices_overlap() -> None:
    spoken = words(("He", 0.0, 0.3), ("hit", 0.3, 0.6), ("her", 0.6, 0.9), ("again.", 0.9, 1.4))
    found = transcribed(spoken, [turn("a", 0.0, 1.4), turn("b", 0.95, 3.0)])
    assert {word.speaker for word in found.words} == {"Speaker 1"}


def test_speakers_are_numbered_as_they_are_first_understood() -> None:
    spoken = words(("One.", 0.0, 0.5), ("Two.", 2.0, 2.5))
    found = transcribed(spoken, [turn("z", 0.0, 0.6), turn("cough", 1.0, 1.1), turn("a", 1.9, 2.6)])
    assert found.speakers == ("Speaker 1", "Speaker 2")
    assert [word.speaker for word in found.words] == ["Speaker 1", "Speaker 2"]


def test_a_long_pause_ends_an_utterance_and_edges_follow_the_turns() -> None:
    spoken = words(("Well", 0.3, 0.6), ("then", 0.6, 1.0), ("go.", 4.0, 4.4))
    found = transcribed(spoken, [turn("a", 0.1, 1.2), turn("a", 3.8, 4.5)])
    assert [(one.start_seconds, one.end_seconds) for one in found.utterances] == [(0.1, 1.2), (3.8, 4.5)]


def test_no_words_make_an_honest_empty_transcript() -> None:
    found = transcribed([], [])
    assert (found.words, found.utterances, found.speakers) == ((), (), ())


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 2)), max_size=20),
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30), st.floats(0.05, 5)), max_size=10),
)
def test_no_word_is_lost_added_or_moved(
    times: list[tuple[float, float]], spans: list[tuple[str, float, float]]
) -> None:
    spoken = words(*[(f"w{number}", start, start + length) for number, (start, length) in enumerate(sorted(times))])
    found = transcribed(spoken, [turn(speaker, start, start + length) for speaker, start, length in spans], 40.0)
    assert [word.model_copy(update={"speaker": None}) for word in found.words] == spoken
    assert sorted(" ".join(one.text for one in found.utterances).split()) == sorted(word.word for word in spoken)
    starts = [one.start_seconds for one in found.utterances]
    assert starts == sorted(starts)
    assert all(one.end_seconds >= one.start_seconds for one in found.utterances)


def track(
    speaker: str, spoken: list[Word], loud: list[tuple[float, float]], quiet_db: float = -70.0
) -> attribution.Track:
    level = np.full(1000, quiet_db, dtype=np.float32)
    for start, end in loud:
        level[int(start * 100) : int(end * 100)] = -15.0
    return attribution.Track(speaker, tuple(spoken), tuple(loud), level)


def merged(*tracks: attribution.Track) -> Transcript:
    return attribution.merge_tracks(tracks, duration_seconds=10.0, language="en", models={})


def test_tracks_are_speakers_and_may_overlap() -> None:
    found = merged(
        track("Alison", words(("He", 1.0, 1.3), ("fell.", 1.3, 1.9)), [(1.0, 2.0)]),
        track("Darren", words(("When?", 1.7, 2.2)), [(1.6, 2.3)]),
    )
    assert [(one.speaker, one.text) for one in found.utterances] == [("Alison", "He fell."), ("Darren", "When?")]
    assert found.utterances[1].start_seconds < found.utterances[0].end_seconds


def test_what_one_microphone_hears_of_the_other_voice_is_left_out() -> None:
    found = merged(
        track("Alison", words(("He", 1.0, 1.3), ("fell.", 1.3, 1.9)), [(1.0, 2.0)]),
        track("Darren", words(("fell.", 1.35, 1.9)), [], quiet_db=-40.0),
    )
    assert [word.speaker for word in found.words] == ["Alison", "Alison"]


def test_a_quiet_person_is_not_taken_for_leakage() -> None:
    found = merged(
        track("Alison", words(("Hello.", 1.0, 1.9)), [(1.0, 2.0)]),
        track("Darren", words(("Please,", 1.2, 1.7)), [], quiet_db=-40.0),
    )
    assert [word.speaker for word in found.words] == ["Alison", "Darren"]


def test_levels_are_decibels_for_each_ten_milliseconds() -> None:
    sound = np.concatenate([np.zeros(1600), np.ones(1600)]).astype(np.float32)
    found = attribution.levels(sound, 16000)
    assert len(found) == 20
    assert found[0] < -90
    assert abs(float(found[-1])) < 0.1
