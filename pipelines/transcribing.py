"""From a recording's tracks to its transcript: the models of speech, called in their order.

On the walk: the worker and `./writecare transcribe` both call this; it knows no database and no Ray. Recognition
and diarization of a single track run side by side: both leave Python's lock while they compute.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import attribution
from models.audio import SAMPLE_RATE, decode
from models.records import SpeakerTurn, Transcript
from models.transcription import Transcription

Samples = NDArray[np.float32]
Answer = TypeVar("Answer")


class Recogniser(Protocol):
    version: str

    def transcribe(self, samples: Samples, *, names: Sequence[str] = ()) -> Transcription: ...


class SpeakerFinder(Protocol):
    version: str

    def diarize(
        self, samples: Samples, *, min_speakers: int = 1, max_speakers: int = 8, num_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]: ...


@dataclass(frozen=True)
class Timing:
    """What a stage cost: seconds of audio in, seconds on the clock."""

    stage: str
    audio_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Transcribed:
    transcript: Transcript
    timings: tuple[Timing, ...]


def transcribe_mixed(
    samples: Samples,
    recogniser: Recogniser,
    finder: SpeakerFinder,
    *,
    speakers: int | None = None,
    names: Sequence[str] = (),
) -> Transcribed:
    """Transcribe a call on one track (float32[n], 16 kHz mono); `speakers` is their number where known."""
    duration = len(samples) / SAMPLE_RATE
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="speech") as pool:
        heard = pool.submit(_timed, "transcription", duration, lambda: recogniser.transcribe(samples, names=names))
        found = pool.submit(_timed, "diarization", duration, lambda: finder.diarize(samples, num_speakers=speakers))
        transcription, first = heard.result()
        turns, second = found.result()
    result, third = _timed(
        "attribution",
        duration,
        lambda: attribution.transcript(
            transcription.words,
            turns,
            duration_seconds=round(duration, 3),
            language=transcription.language,
            models={"transcription": recogniser.version, "diarization": finder.version},
        ),
    )
    return Transcribed(result, (first, second, third))


def transcribe_tracks(
    tracks: Sequence[Samples], labels: Sequence[str], recogniser: Recogniser, *, names: Sequence[str] = ()
) -> Transcribed:
    """Transcribe a call with one track a participant (each float32[n], 16 kHz mono, aligned in time).

    A track is a speaker, so nothing is diarized; `labels` name the speakers, one a track, each different.
    """
    duration = max((len(track) for track in tracks), default=0) / SAMPLE_RATE
    total = sum(len(track) for track in tracks) / SAMPLE_RATE
    heard, first = _timed(
        "transcription", total, lambda: [recogniser.transcribe(track, names=names) for track in tracks]
    )
    result, second = _timed(
        "attribution",
        duration,
        lambda: attribution.merge_tracks(
            [
                attribution.Track(label, one.words, one.speech, attribution.levels(samples, SAMPLE_RATE))
                for label, one, samples in zip(labels, heard, tracks, strict=True)
            ],
            duration_seconds=round(duration, 3),
            language=heard[0].language,
            models={"transcription": recogniser.version},
        ),
    )
    return Transcribed(result, (first, second))


def transcribe_source(
    source: str,
    recogniser: Recogniser,
    finder: SpeakerFinder,
    *,
    max_seconds: float,
    speakers: int | None = None,
    names: Sequence[str] = (),
) -> tuple[dict[str, Any], tuple[Timing, ...]]:
    """Transcribe a file, or the tracks of one call as `a.flac+b.flac`; the contract's JSON shape, and the timings.

    Raises `WriteCareError` as `models.audio.decode`, and `FileNotFoundError` and its kin for a path that fails.
    """
    paths = source_paths(source)
    decoded, decoding = _timed("decoding", 0.0, lambda: [decode(path, max_seconds=max_seconds) for path in paths])
    decoding = Timing("decoding", sum(one.duration_seconds for one in decoded), decoding.wall_seconds)
    samples = [one.samples for one in decoded]
    if len(samples) == 1:
        done = transcribe_mixed(samples[0], recogniser, finder, speakers=speakers, names=names)
    else:
        labels = [f"Speaker {number}" for number in range(1, len(samples) + 1)]
        done = transcribe_tracks(samples, labels, recogniser, names=names)
    return {"source": source, **done.transcript.model_dump(mode="json")}, (decoding, *done.timings)


def source_paths(source: str) -> list[Path]:
    """The files that a source names: itself where such a file exists, else the tracks that `+` joins."""
    if Path(source).exists():
        return [Path(source)]
    return [Path(part) for part in source.split("+")]


def rttm(transcript: dict[str, Any], name: str) -> str:
    """The utterances as NIST RTTM lines (one a stretch of speech); utterances without a speaker are left out."""
    lines = []
    for utterance in transcript["utterances"]:
        if utterance["speaker"] is None:
            continue
        start = utterance["start_seconds"]
        length = utterance["end_seconds"] - start
        speaker = utterance["speaker"].replace(" ", "_")  # RTTM separates its fields by spaces
        lines.append(f"SPEAKER {name} 1 {start:.3f} {length:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
    return "".join(lines)


def _timed(stage: str, audio_seconds: float, work: Callable[[], Answer]) -> tuple[Answer, Timing]:
    started = time.perf_counter()
    answer = work()
    return answer, Timing(stage, audio_seconds, time.perf_counter() - started)
