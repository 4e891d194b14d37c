"""Metrics that compare recognised words and speakers with a reference. Pure functions; they load no model.

`training/evaluate_speech.py` and the speech benchmarks print them.

WER: jiwer after Whisper's EnglishTextNormalizer without its spelling map, on both sides. DER: pyannote.metrics, no
collar, overlap scored, the whole file as evaluated map. cpWER: the words of each speaker in one stream; hypothesis
streams are matched to reference streams so that errors are fewest (Watanabe et al. 2020, CHiME-6). ORC-WER: each
utterance of the reference goes to the hypothesis stream with which errors are fewest (Sklyar et al. 2022; von Neumann
et al. 2023), so it counts word errors but not speaker errors. cpWER minus ORC-WER is the cost of attribution.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import jiwer
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

_MOST_CELLS: Final = 20_000_000  # of the ORC-WER table: a larger one does not fit into memory beside the models


@cache
def _normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer({})


def normalised(text: str) -> str:
    """Lower case without punctuation, fillers and short forms, the form in which Whisper's authors count words."""
    return str(_normaliser()(text))


def speaker_streams(items: Sequence[Mapping[str, Any]], speaker: str, text: str) -> dict[str, str]:
    """The words of each speaker, normalised, in order."""
    spoken: dict[str, list[str]] = defaultdict(list)
    for item in items:
        spoken[str(item[speaker])].append(item[text])
    return {name: normalised(" ".join(parts)) for name, parts in spoken.items()}


def count_word_errors(reference: str, hypothesis: str) -> int:
    """Substitutions, deletions and insertions between two normalised texts."""
    if not reference:
        return len(hypothesis.split())
    counts = jiwer.process_words(reference, hypothesis)
    return int(counts.substitutions + counts.deletions + counts.insertions)


def cp_word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest word errors over all matchings of streams. All words of an unmatched stream are errors."""
    size = max(len(reference), len(hypothesis))
    padded_reference = [*reference, *[""] * (size - len(reference))]
    padded_hypothesis = [*hypothesis, *[""] * (size - len(hypothesis))]
    costs = np.array([[count_word_errors(one, other) for other in padded_hypothesis] for one in padded_reference])
    rows, columns = linear_sum_assignment(costs)
    return int(costs[rows, columns].sum())


def orc_word_errors(utterances: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The word errors of ORC-WER: each of `utterances` (normalised, in order of start) goes to the best stream.

    Exact, by dynamic programming over the number of words read from each stream: `table[i, j, …]` is the fewest errors
    of the utterances so far with i words of the first stream read, j of the second … Raises ValueError if the streams
    are so many and so long that the table would not fit into memory.
    """
    words = [stream.split() for stream in hypothesis if stream]
    shape = tuple(len(stream) + 1 for stream in words)
    if np.prod(shape, dtype=np.float64) > _MOST_CELLS:
        raise ValueError("too many and too long streams for an exact ORC-WER")
    table = np.zeros(shape, dtype=np.int32)
    for axis, stream in enumerate(words):  # words read before the first utterance are insertions
        along = [-1 if at == axis else 1 for at in range(len(words))]
        table += np.arange(len(stream) + 1, dtype=np.int32).reshape(along)
    for utterance in utterances:
        said = utterance.split()
        if not words:
            table += len(said)
            continue
        table = np.minimum.reduce([_align_utterance(table, axis, stream, said) for axis, stream in enumerate(words)])
    return int(table[(-1,) * table.ndim])


def _align_utterance(
    table: NDArray[np.int32], axis: int, stream: Sequence[str], said: Sequence[str]
) -> NDArray[np.int32]:
    """The table after one utterance was compared with one stream, from every position read so far."""
    rows = np.moveaxis(table, axis, 0).copy()
    along = np.arange(len(rows), dtype=np.int32).reshape([-1] + [1] * (rows.ndim - 1))
    for word in said:
        differs = np.array([word != other for other in stream], dtype=np.int32).reshape([-1] + [1] * (rows.ndim - 1))
        best = rows + 1  # the word was not recognised
        best[1:] = np.minimum(best[1:], rows[:-1] + differs)
        rows = np.minimum.accumulate(best - along, axis=0) + along  # recognised words that were not said
    return np.moveaxis(rows, 0, axis)


def diarization_errors(
    turns: Sequence[Mapping[str, Any]], utterances: Sequence[Mapping[str, Any]], duration: float
) -> tuple[float, float, float, float]:
    """Missed, false-alarm and confused seconds of the utterances, and the seconds of speech in the reference."""
    from pyannote.core import Annotation, Segment, Timeline  # noqa: PLC0415 - only after telemetry is off
    from pyannote.metrics.diarization import DiarizationErrorRate  # noqa: PLC0415

    reference, hypothesis = Annotation(), Annotation()
    for number, turn in enumerate(turns):
        reference[Segment(turn["start"], turn["end"]), number] = turn["speaker"]
    for number, utterance in enumerate(utterances):
        stretch = Segment(utterance["start_seconds"], utterance["end_seconds"])
        hypothesis[stretch, number] = utterance["speaker"] or "unknown"
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    parts = metric(reference, hypothesis, uem=Timeline([Segment(0, duration)]), detailed=True)
    return parts["missed detection"], parts["false alarm"], parts["confusion"], parts["total"]


def time_errors(turns: Sequence[Mapping[str, Any]], heard: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds between the true and the recognised start of words, for correctly recognised words.

    A turn may have `words`, each with `word` and `start` (seconds), in order and not necessarily all of its text;
    `heard` has `word` and `start_seconds`. Both are aligned in order, as a whole.
    """
    said = [one for turn in sorted(turns, key=lambda turn: turn["start"]) for one in _timed_words(turn)]
    found = [(plain, one["start_seconds"]) for one in heard if (plain := _plain_word(one["word"]))]
    if not said or not found:
        return []
    matched = jiwer.process_words(" ".join(word for word, _ in said), " ".join(word for word, _ in found))
    pairs = [
        (said[chunk.ref_start_idx + at][1], found[chunk.hyp_start_idx + at][1])
        for chunk in matched.alignments[0]
        if chunk.type == "equal"
        for at in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    return [abs(there - began) for began, there in pairs if began is not None]


def _timed_words(turn: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    timed = list(turn.get("words", ()))
    for word in turn["text"].split():
        plain = _plain_word(word)
        at = next((place for place, one in enumerate(timed[:4]) if _plain_word(one["word"]) == plain), None)
        if plain:
            yield plain, None if at is None else float(timed[at]["start"])
        if at is not None:
            del timed[: at + 1]


def _plain_word(word: str) -> str:
    return re.sub(r"\W", "", word).lower()
