"""Assigns recognised words to speaker turns and builds the transcript. Pure functions; no model is loaded.

It runs after `models/speech/transcription.py` and `models/speech/diarization.py`. People read the resulting
`Transcript`, and every text model uses it. A word that fits no turn, or two turns equally well, keeps `speaker` None:
attributing an allegation to the wrong person is worse than leaving the speaker blank.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import NotUnderstood, SpeakerTurn, Transcript, Utterance, Word

_NEAREST_SECONDS: Final = 0.5  # a word outside all turns goes to the nearest turn within this; word times are inexact
_LEAST_CONFIDENCE: Final = 0.6  # below this confidence the word gets no speaker
_PAUSE_SECONDS: Final = 1.0  # a silence this long ends an utterance
_LONG_SECONDS: Final = 15.0  # from this length on, an utterance ends at the next end of a sentence
_SNAP_SECONDS: Final = 0.6  # the edge of an utterance moves to the edge of its turn if they are this close
_LEAK_DECIBELS: Final = 9.0  # a word this much louder on another track was said there
_SENTENCE_END: Final = re.compile(r"[.?!…][\"')\]]*$")


@dataclass(frozen=True)
class Attribution:
    """The speaker of a word, with a confidence in [0, 1]. `speaker` is None if the confidence is too low."""

    speaker: str | None
    confidence: float


@dataclass(frozen=True)
class Track:
    """The track of one participant: label, words, time spans of speech (start, end), level in dB for each 10 ms."""

    speaker: str
    words: tuple[Word, ...]
    speech: tuple[tuple[float, float], ...]
    levels: NDArray[np.float32]


def attribute(words: Sequence[Word], turns: Sequence[SpeakerTurn]) -> tuple[Attribution, ...]:
    """The speaker of each word, from the turns that overlap it or are near it, and from the sentence around it."""
    scores = [_speaker_scores(word, turns) for word in words]
    sentences = _sentences(words)
    answers: list[Attribution] = []
    for sentence in sentences:
        whole: dict[str, float] = defaultdict(float)
        for index in sentence:
            for speaker, score in scores[index].items():
                whole[speaker] += score / len(sentence)
        answers += [_choose_speaker(scores[index], whole) for index in sentence]
    return tuple(answers)


def transcript(
    words: Sequence[Word],
    turns: Sequence[SpeakerTurn],
    *,
    duration_seconds: float,
    language: str,
    models: Mapping[str, str],
    not_understood: Sequence[NotUnderstood] = (),
) -> Transcript:
    """The transcript of a call on one track. Speakers are numbered in the order of their first recognised word.

    A turn without a recognised word (a cough, a diarization error) does not count as a speaker.
    """
    answers = attribute(words, turns)
    numbered = {
        speaker: f"Speaker {number}"
        for number, speaker in enumerate(dict.fromkeys(one.speaker for one in answers if one.speaker), start=1)
    }
    attributed = [
        word.model_copy(update={"speaker": numbered.get(answer.speaker or "")})
        for word, answer in zip(words, answers, strict=True)
    ]
    turns = [turn.model_copy(update={"speaker": numbered[turn.speaker]}) for turn in turns if turn.speaker in numbered]
    found = sorted(_utterances(attributed, turns, duration_seconds), key=_by_start)
    speakers = tuple(numbered.values())
    return Transcript(
        duration_seconds=duration_seconds,
        language=language,
        not_understood=tuple(sorted(not_understood, key=lambda stretch: stretch.start_seconds)),
        speakers=speakers,
        words=tuple(attributed),
        utterances=tuple(found),
        models=dict(models),
    )


def merge_tracks(
    tracks: Sequence[Track],
    *,
    duration_seconds: float,
    language: str,
    models: Mapping[str, str],
    not_understood: Sequence[NotUnderstood] = (),
) -> Transcript:
    """The transcript of a call with one track for each participant, without words that leaked from other tracks."""
    words: list[Word] = []
    utterances: list[Utterance] = []
    for track in tracks:
        others = [other for other in tracks if other is not track]
        own = [
            word.model_copy(update={"speaker": track.speaker})
            for word in track.words
            if not any(_is_leakage(word, track, other) for other in others)
        ]
        turns = [
            SpeakerTurn(speaker=track.speaker, start_seconds=start, end_seconds=end) for start, end in track.speech
        ]
        words += own
        utterances += _utterances(own, turns, duration_seconds)
    return Transcript(
        duration_seconds=duration_seconds,
        language=language,
        not_understood=tuple(sorted(not_understood, key=lambda stretch: stretch.start_seconds)),
        speakers=tuple(track.speaker for track in tracks),
        words=tuple(sorted(words, key=_by_start)),
        utterances=tuple(sorted(utterances, key=_by_start)),
        models=dict(models),
    )


def levels(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """The level of float32[n] in dB (full scale is 0) for each 10 ms. Used to tell a voice from its leakage."""
    step = sample_rate // 100
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)), dtype=np.float32)


# --- words to speakers -------------------------------------------------------------------------------------------


def _speaker_scores(word: Word, turns: Sequence[SpeakerTurn]) -> dict[str, float]:
    """How well each speaker's turns fit the word: the share that they cover or, if none does, how near they are."""
    length = max(word.end_seconds - word.start_seconds, 0.02)
    covered: dict[str, float] = defaultdict(float)
    nearest: dict[str, float] = {}
    for turn in turns:
        overlap = min(word.end_seconds, turn.end_seconds) - max(word.start_seconds, turn.start_seconds)
        if overlap > 0:
            covered[turn.speaker] += overlap / length
        elif -overlap <= _NEAREST_SECONDS:
            nearness = 0.8 * (1 + overlap / (2 * _NEAREST_SECONDS))
            nearest[turn.speaker] = max(nearest.get(turn.speaker, 0.0), nearness)
    return {speaker: min(1.0, share) for speaker, share in covered.items()} or nearest


def _choose_speaker(own: Mapping[str, float], sentence: Mapping[str, float]) -> Attribution:
    """The speaker that fits the word and its sentence best.

    The sentence decides if two voices overlap or the turns are inexact: speakers rarely change in mid-sentence, and the
    edge of a turn is less certain than its middle.
    """
    combined = {speaker: 0.5 * score + 0.5 * sentence.get(speaker, 0.0) for speaker, score in own.items()}
    for speaker, score in sentence.items():
        combined.setdefault(speaker, 0.5 * score)
    if not combined:
        return Attribution(None, 0.0)
    ranked = sorted(combined.items(), key=lambda item: -item[1])
    best, score = ranked[0]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    confidence = min(1.0, score / (score + second))
    if not own and score < 0.25:  # no turn near the word, and few near its sentence
        return Attribution(None, confidence * score)
    return Attribution(best if confidence >= _LEAST_CONFIDENCE else None, confidence)


def _sentences(words: Sequence[Word]) -> list[list[int]]:
    """Indices of words, cut after a sentence's end and at pauses."""
    sentences: list[list[int]] = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else None
        if before is None or _SENTENCE_END.search(before.word) or word.start_seconds - before.end_seconds > 0.7:
            sentences.append([])
        sentences[-1].append(index)
    return sentences


def _is_leakage(word: Word, track: Track, other: Track) -> bool:
    """Whether a word on `track` is the voice of the other participant, recorded by this participant's microphone."""
    first, last = int(word.start_seconds * 100), max(int(word.end_seconds * 100), int(word.start_seconds * 100) + 1)
    here, there = track.levels[first:last], other.levels[first:last]
    if not len(here) or not len(there) or float(np.max(there)) - float(np.max(here)) < _LEAK_DECIBELS:
        return False
    # A higher level on the other track is not enough, because two people may speak at once. The other track must have
    # speech there, and either the same word, or this track must be near its noise level.
    speaking = any(start < word.end_seconds and end > word.start_seconds for start, end in other.speech)
    same = any(
        _plain(word.word) == _plain(theirs.word) and abs(word.start_seconds - theirs.start_seconds) < 0.6
        for theirs in other.words
    )
    return speaking and (same or float(np.max(here)) < -50.0)


def _plain(word: str) -> str:
    return re.sub(r"\W", "", word).lower()


# --- words to utterances -----------------------------------------------------------------------------------------


def _utterances(words: Sequence[Word], turns: Sequence[SpeakerTurn], duration_seconds: float) -> list[Utterance]:
    runs: list[list[Word]] = []
    for word in words:
        if not runs or _utterance_ends(runs[-1], word):
            runs.append([])
        runs[-1].append(word)
    return [_utterance(run, turns, duration_seconds) for run in runs]


def _utterance_ends(run: Sequence[Word], following: Word) -> bool:
    """Whether the utterance `run` ends before the word `following`."""
    last = run[-1]
    if following.speaker != last.speaker or following.start_seconds - last.end_seconds >= _PAUSE_SECONDS:
        return True
    is_long = last.end_seconds - run[0].start_seconds >= _LONG_SECONDS
    return is_long and bool(_SENTENCE_END.search(last.word))


def _utterance(run: Sequence[Word], turns: Sequence[SpeakerTurn], duration_seconds: float) -> Utterance:
    start, end = run[0].start_seconds, max(word.end_seconds for word in run)
    own = [turn for turn in turns if turn.speaker == run[0].speaker]
    start = _snap_to_turn(start, [turn.start_seconds for turn in own])
    end = _snap_to_turn(end, [turn.end_seconds for turn in own])
    if end <= start:  # a very short utterance between two edges keeps the recogniser's times
        start, end = run[0].start_seconds, max(word.end_seconds for word in run)
    return Utterance(
        speaker=run[0].speaker,
        start_seconds=round(start, 3),
        end_seconds=round(min(end, max(duration_seconds, start)), 3),
        text=" ".join(word.word for word in run),
        confidence=float(np.mean([word.confidence for word in run])),
    )


def _snap_to_turn(edge: float, candidates: Sequence[float]) -> float:
    """The nearest turn edge, if it is close: diarization times are more exact than those of the recogniser."""
    nearest = min(candidates, key=lambda candidate: abs(candidate - edge), default=edge)
    return nearest if abs(nearest - edge) <= _SNAP_SECONDS else edge


def _by_start(item: Word | Utterance | SpeakerTurn) -> tuple[float, float]:
    return item.start_seconds, item.end_seconds
