"""The recogniser: words of a spoken call with their times, and no words for sounds that are not speech."""

import json
import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from models.artefacts import weights
from models.audio import decoder
from models.contract.records import Transcription, Word
from models.speech import hallucinations, spelling
from models.speech.hallucinations import drop_disputed_words, drop_repetition_loops
from models.speech.language_identification import WindowLanguages, main_language, split_by_language
from models.speech.transcription import Transcriber
from models.speech.voice_activity import find_quiet_speech, find_speech, speech_without_words
from training import nonspeech

SAMPLES = Path(__file__).parents[3] / "samples"
SECOND = decoder.SAMPLE_RATE


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber(weights.whisper(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def heard(transcriber: Transcriber) -> Transcription:
    return transcriber.transcribe(decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples)


def plain(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def test_the_words_that_matter_are_heard(heard: Transcription) -> None:
    said = plain(" ".join(word.word for word in heard.words))
    for phrase in ("hitting her with his walking", "cut on her head", "behind the table", "put it down"):
        wanted = phrase.split()
        assert any(said[at : at + len(wanted)] == wanted for at in range(len(said))), phrase


def test_no_turn_of_the_call_is_lost(heard: Transcription) -> None:
    turns = json.loads((SAMPLES / "tr-a-0053.json").read_text())["turns"]
    for turn in turns:
        inside = [one for one in heard.words if turn["start"] - 0.3 <= one.start_seconds <= turn["end"] + 0.3]
        assert len(inside) >= 0.6 * len(turn["text"].split()), turn["start"]


def test_words_have_times_in_order_and_confidences(heard: Transcription) -> None:
    starts = [word.start_seconds for word in heard.words]
    assert starts == sorted(starts)
    assert all(0 < word.end_seconds - word.start_seconds < 3 for word in heard.words)
    assert all(word.end_seconds <= 46.2 for word in heard.words)
    assert len({word.confidence for word in heard.words}) > 20


def test_word_times_follow_the_sound(transcriber: Transcriber, heard: Transcription) -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples
    later = transcriber.transcribe(np.concatenate([np.zeros(5 * SECOND, dtype=np.float32), samples]))
    times = {word.word: word.start_seconds for word in heard.words}
    moved = [word.start_seconds - times[word.word] for word in later.words if word.word in times]
    assert len(moved) > 60
    assert abs(float(np.median(moved)) - 5.0) < 0.1


@pytest.mark.parametrize("sound", ["silence", "nothing", "hum", "white noise", "melody", "clicks"])
def test_what_is_not_speech_has_no_words(transcriber: Transcriber, sound: str) -> None:
    length = 20 * SECOND
    time = np.arange(length) / SECOND
    random = np.random.default_rng(7)
    made = {
        "silence": np.zeros(length),
        "nothing": np.zeros(0),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time) + 0.05 * np.sin(2 * np.pi * 150 * time),
        "white noise": random.normal(0, 0.05, length),
        "melody": 0.2 * np.sin(2 * np.pi * 220 * 2 ** (np.floor(time * 3) % 12 / 12) * time),
        "clicks": (random.random(length) > 0.9995).astype(float),
    }[sound]
    assert transcriber.transcribe(made.astype(np.float32)).words == ()


@pytest.mark.parametrize("sound", ["mains hum", "pink noise", "music", "babble", "babble, reversed", "babble, far"])
def test_sounds_of_a_home_have_no_words(transcriber: Transcriber, sound: str) -> None:
    voices = [
        decoder.decode(SAMPLES / name, max_seconds=60).samples
        for name in ("tr-a-0034.S1.ogg", "tr-a-0034.S2.ogg", "tr-a-0034.S3.ogg", "tr-a-0053.flac")
    ]
    assert transcriber.transcribe(nonspeech.sounds(voices, 30.0)[sound]).words == ()


def test_silence_around_speech_adds_nothing(transcriber: Transcriber) -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples[: 13 * SECOND]
    quiet = np.random.default_rng(3).normal(0, 0.002, 40 * SECOND).astype(np.float32)
    found = transcriber.transcribe(np.concatenate([quiet, samples, quiet]))
    assert all(39.5 < word.start_seconds < 53.5 for word in found.words)
    assert len(found.words) > 30


def test_speech_is_found_where_it_is() -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples
    speech = find_speech(samples)
    spoken = sum(end - start for start, end in speech)
    assert 35 < spoken < 46.2


def test_speech_after_a_long_silence_is_found_from_its_first_word() -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples[: 13 * SECOND]
    speech = find_speech(np.concatenate([np.zeros(40 * SECOND, dtype=np.float32), samples]))
    assert abs(speech[0][0] - 40.5) < 0.3


def test_a_word_that_lasts_too_long_is_cut_to_its_end() -> None:
    stretched = Word(word="Bed", start_seconds=19.1, end_seconds=20.9, confidence=0.5)
    assert abs(hallucinations._trim_duration(stretched).start_seconds - 20.42) < 0.01
    spoken = Word(word="58.2,", start_seconds=15.3, end_seconds=17.0, confidence=0.5)
    assert hallucinations._trim_duration(spoken) == spoken


@pytest.mark.parametrize(
    ("heard_as", "written"),
    [
        ("Agneska,", "Agnieszka,"),
        ("Agneska's", "Agnieszka's"),
        ("angrily", "angrily"),
        ("Agenda", "Agenda"),
        ("Ann", "Ann"),
        ("Maria", "Maria"),
    ],
)
def test_a_near_miss_of_a_participants_name_is_spelt_right(heard_as: str, written: str) -> None:
    word = Word(word=heard_as, start_seconds=0, end_seconds=1, confidence=0.5)
    assert spelling.correct_name(word, ["Agnieszka Nowak", "Anna", "Mario"]).word == written


def test_a_name_that_was_clearly_heard_is_left_as_it_is() -> None:
    word = Word(word="Agneska", start_seconds=0, end_seconds=1, confidence=0.9)
    assert spelling.correct_name(word, ["Agnieszka"]) == word


def made_up(*texts: str) -> list[Word]:
    return [
        Word(word=text, start_seconds=number, end_seconds=number + 0.5, confidence=0.5)
        for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("heard_as", "written"),
    [
        ("My mom's favorite color.", "My mum's favourite colour."),
        ("MOM! Mom, look", "MUM! Mum, look"),
        ("The program was a safe place", "The program was a safe place"),
        ("I told safe guarding, yes", "I told safeguarding, yes"),
        ("Safe guarding's number", "Safeguarding's number"),
        ("Tell the safe writing team about the bruise", "Tell the safeguarding team about the bruise"),
        ("She keeps her poems in a safe writing box", "She keeps her poems in a safe writing box"),
        ("It was safe, guarding the door", "It was safe, guarding the door"),
        ("1 Nero Nero Nero 1, 90210 Nero 180 Nero 3", "1 zero zero zero 1, 90210 zero 180 zero 3"),
        ("We saw Nero and 2 friends", "We saw Nero and 2 friends"),
    ],
)
def test_words_are_written_as_in_britain_and_in_care(heard_as: str, written: str) -> None:
    assert " ".join(word.word for word in spelling.correct_spelling(made_up(*heard_as.split()), [])) == written


def test_words_joined_in_writing_keep_their_times() -> None:
    (word,) = spelling.correct_spelling(made_up("safe", "guarding."), [])
    assert (word.start_seconds, word.end_seconds) == (0, 1.5)


def test_words_on_which_the_readings_hardly_agree_are_left_out() -> None:
    sure = made_up("She", "had", "a", "bruise", "on", "her", "arm")
    guessed = [
        word.model_copy(update={"confidence": 0.25, "start_seconds": 60 + number, "end_seconds": 60.5 + number})
        for number, word in enumerate(made_up("I", "want", "to", "hold", "your", "loop"))
    ]
    unsure = sure[3].model_copy(update={"confidence": 0.1})
    words = [(word, 1) for word in (*sure[:3], unsure, *sure[4:], *guessed)]
    assert drop_disputed_words(words, majority=2) == [*sure[:3], unsure, *sure[4:]]
    assert drop_disputed_words([(word, 2) for word, _ in words], majority=2) == [*sure[:3], unsure, *sure[4:]]
    likelier = [word.model_copy(update={"confidence": 0.39}) for word in guessed]
    assert drop_disputed_words([(word, 1) for word in likelier], majority=2) == []
    assert drop_disputed_words([(word, 2) for word in likelier], majority=2) == likelier


def spoken(*texts: str, every: float, start: float = 0.0) -> list[Word]:
    return [
        Word(
            word=text, start_seconds=start + every * number, end_seconds=start + every * (number + 0.9), confidence=0.9
        )
        for number, text in enumerate(texts)
    ]


def test_a_decoding_loop_is_cut_to_one() -> None:
    looped = spoken(*(["thank", "you."] * 20), every=0.02)
    goodbye = spoken("Goodbye.", start=2.0, every=0.5)
    speech = [(0.0, 0.9), (2.0, 2.5)]
    assert [word.word for word in drop_repetition_loops([*looped, *goodbye], speech)] == ["thank", "you.", "Goodbye."]


def test_repeats_behind_the_end_of_the_speech_are_a_loop() -> None:
    looped = spoken(*["Nero"] * 30, every=0.4)
    kept = drop_repetition_loops(looped, [(0.0, 1.5)])
    assert len(kept) == 4
    assert {word.confidence for word in kept} == {0.45}  # uncertain: another reading must confirm them


@pytest.mark.parametrize("times", [4, 5, 12])
def test_a_cry_is_kept_as_often_as_it_is_cried(times: int) -> None:
    cry = spoken(*(["Help", "me!"] * times), every=0.4)
    assert drop_repetition_loops(cry, [(0.0, 0.8 * times)]) == cry


def test_a_person_who_repeats_a_word_is_believed() -> None:
    said = made_up("No,", "no,", "no!", "Get", "off", "me,", "get", "off", "me!")
    assert drop_repetition_loops(said, [(0.0, 9.0)]) == said


CASES = Path(__file__).parents[2] / "cases"


def text_of(found: Transcription) -> str:
    return " ".join(word.word for word in found.words)


def test_spoken_digits_are_written_or_said_to_be_not_understood(transcriber: Transcriber) -> None:
    """How many of the 15 digits come out right depends on the processor: 8-bit products are rounded differently."""
    found = transcriber.transcribe(decoder.decode(CASES / "digits-spoken.flac", max_seconds=60).samples)
    written = re.sub(r"zero|oh", "0", text_of(found).lower())
    digits = re.sub(r"\D", "", re.sub(r"one", "1", written))
    in_order = SequenceMatcher(None, digits, "100019021001803", autojunk=False).get_matching_blocks()
    assert sum(block.size for block in in_order) >= 9
    covered = [(word.start_seconds, word.end_seconds) for word in found.words]
    covered += [(stretch.start_seconds, stretch.end_seconds) for stretch in found.not_understood]
    assert speech_without_words(covered, found.speech, longer=1.5) == []  # nothing that was spoken is passed over


def test_a_cry_is_written_as_often_as_it_was_cried(transcriber: Transcriber) -> None:
    found = transcriber.transcribe(decoder.decode(CASES / "repeated-cry.flac", max_seconds=60).samples)
    assert plain(text_of(found)).count("me") == 5


@pytest.mark.parametrize(
    ("decibels", "share"), [(-40, 0.8), (-60, 0.5)]
)  # at -60 dB only four bits of the voice are left
def test_a_quiet_voice_is_understood(
    transcriber: Transcriber, heard: Transcription, decibels: float, share: float
) -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples[: 13 * SECOND]
    stored = np.round(samples * 10 ** (decibels / 20) * 32768) / 32768  # rounded as in a 16-bit file
    found = transcriber.transcribe(stored.astype(np.float32))
    usual = [word for word in heard.words if word.end_seconds < 12.5]
    assert len(found.words) >= share * len(usual)


def test_what_is_too_quiet_to_understand_is_not_taken_for_silence() -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples[: 13 * SECOND]
    assert find_quiet_speech((samples * 3e-4).astype(np.float32))
    assert not find_quiet_speech(np.zeros(13 * SECOND, dtype=np.float32))
    noise = np.random.default_rng(5).normal(0, 0.0005, 13 * SECOND).astype(np.float32)
    assert not find_quiet_speech(noise)


def test_the_language_is_told_and_english_is_english(heard: Transcription) -> None:
    assert heard.language == "en"
    assert not [stretch for stretch in heard.not_understood if stretch.reason.startswith("language")]


def windows_of(*languages: dict[str, float]) -> list[WindowLanguages]:
    return [WindowLanguages(28.0 * at, 28.0 * at + 27, chances) for at, chances in enumerate(languages)]


ENGLISH = {"en": 0.95, "cy": 0.03}
POLISH = {"en": 0.02, "pl": 0.93}
UNSURE = {"en": 0.2, "cy": 0.3, "nn": 0.3}


def test_a_call_in_one_language_is_one_part() -> None:
    assert [part.language for part in split_by_language(windows_of(ENGLISH, UNSURE, ENGLISH))] == ["en"]
    assert [part.language for part in split_by_language(windows_of(POLISH, POLISH))] == ["pl"]


def test_a_change_of_language_is_found() -> None:
    found = split_by_language(windows_of(ENGLISH, ENGLISH, POLISH, ENGLISH))
    assert [(part.language, part.start) for part in found] == [("en", 0.0), ("pl", 56.0), ("en", 84.0)]
    assert main_language(found) == "en"


def test_a_language_that_is_not_certain_is_not_named() -> None:
    assert [part.language for part in split_by_language(windows_of(UNSURE, UNSURE))] == ["und"]


def test_a_language_beside_which_english_is_possible_is_not_named() -> None:
    assert [part.language for part in split_by_language(windows_of({"ja": 0.53, "en": 0.32}))] == ["und"]


def test_a_cry_alone_has_no_language_but_the_expected() -> None:
    assert [part.language for part in split_by_language([WindowLanguages(0.0, 1.2, POLISH)])] == ["en"]


def test_speech_in_a_language_that_cannot_be_written_is_said_to_be_not_understood(transcriber: Transcriber) -> None:
    samples = decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples[: 6 * SECOND]
    found = transcriber.transcribe(samples, language="cy")
    assert (found.words, found.language) == ((), "cy")
    assert {stretch.reason for stretch in found.not_understood} == {"language_unsupported"}
    assert found.not_understood[0].start_seconds < 1.5
