"""From words and turns to a transcript: who said which words. Pure functions; no model is loaded here.

On the walk: after `models/speech/transcription.py` and `models/speech/diarization.py`; the `Transcript` that comes out
is what people read and what every text model takes. A word that fits no turn, or fits two equally well, keeps `speaker`
None: putting an allegation into the wrong mouth is worse than a blank.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import NotUnderstood, SpeakerTurn, Transcript, Utterance, Word

_NEAREST_SECONDS: Final = 0.5  # a word outside all turns goes to the nearest within this; recognisers' times are loose
_LEAST_CONFIDENCE: Final = 0.6  # below this confidence the word stays blank
_PAUSE_SECONDS: Final = 1.0  # a silence this long ends an utterance
_LONG_SECONDS: Final = 15.0  # from this length on, an utterance ends at the next end of a sentence
_SNAP_SECONDS: Final = 0.6  # an utterance's edge moves to its turn's edge when that is this near
_LEAK_DECIBELS: Final = 9.0  # a word this much louder on another track was said there
_SENTENCE_END: Final = re.compile(r"[.?!…][\"')\]]*$")


@dataclass(frozen=True)
class Attribution:
    """A word's speaker with a confidence in [0, 1]; `speaker` None where that is too low."""

    speaker: str | None
    confidence: float


@dataclass(frozen=True)
class Track:
    """One participant's own recording: label, words, stretches of speech (start, end), level in dB per 10 ms."""

    speaker: str
    words: tuple[Word, ...]
    speech: tuple[tuple[float, float], ...]
    levels: NDArray[np.float32]


def attribute(words: Sequence[Word], turns: Sequence[SpeakerTurn]) -> tuple[Attribution, ...]:
    """For each word its speaker, from the turns that it overlaps or lies next to and from the sentence around it."""
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
    """The transcript of a call on one track; speakers are numbered in the order in which they are first understood.

    A turn of which no word was understood (a cough, a blip of diarization) makes no speaker.
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
    """The transcript of a call with a track for each participant; what leaked from another track is left out."""
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
    """The level of float32[n] in dB (full scale 0) for each 10 ms; what tells a voice from its leakage."""
    step = sample_rate // 100
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)), dtype=np.float32)


# --- words to speakers -------------------------------------------------------------------------------------------


def _speaker_scores(word: Word, turns: Sequence[SpeakerTurn]) -> dict[str, float]:
    """How well each speaker's turns fit the word: the share of it that they cover, or nearness where none does."""
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
    """The speaker that fits word and sentence best; the sentence decides where two voices overlap or turns are ragged.

    People seldom change in mid-sentence, and a turn's edge is less certain than its middle.
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
    """Whether a word on `track` is the other participant's voice, heard by this one's microphone."""
    first, last = int(word.start_seconds * 100), max(int(word.end_seconds * 100), int(word.start_seconds * 100) + 1)
    here, there = track.levels[first:last], other.levels[first:last]
    if not len(here) or not len(there) or float(np.max(there)) - float(np.max(here)) < _LEAK_DECIBELS:
        return False
    # Louder elsewhere is not enough: two people may speak at once. The other track must hold speech there too,
    # and this one nothing that stands out of its own noise.
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
    """Whether the utterance `run` is over before the word that follows."""
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
    if end <= start:  # a word or two between two edges: keep the recogniser's own times
        start, end = run[0].start_seconds, max(word.end_seconds for word in run)
    return Utterance(
        speaker=run[0].speaker,
        start_seconds=round(start, 3),
        end_seconds=round(min(end, max(duration_seconds, start)), 3),
        text=" ".join(word.word for word in run),
        confidence=float(np.mean([word.confidence for word in run])),
    )


def _snap_to_turn(edge: float, candidates: Sequence[float]) -> float:
    """The nearest of the turns' edges: diarization sees where a voice begins, the recogniser only about where."""
    nearest = min(candidates, key=lambda candidate: abs(candidate - edge), default=edge)
    return nearest if abs(nearest - edge) <= _SNAP_SECONDS else edge


def _by_start(item: Word | Utterance | SpeakerTurn) -> tuple[float, float]:
    return item.start_seconds, item.end_seconds
