"""Shared code of the speech benchmarks: the calls, the baselines on the same weights, and alternating pairs of runs.

Each benchmark takes `--calls DIR` (FLAC with JSON references, as `training/evaluate_speech.py` reads them; without it,
the bundled call), `--pairs N` and `--data DIR` when it is run as `python -m benchmarks.NAME`.
"""

import argparse
import json
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts import weights
from models.audio.decoder import SAMPLE_RATE, decode
from models.contract.records import SpeakerTurn
from models.speech.diarization import Diarizer
from models.speech.transcription import RecognitionOptions, Transcriber
from training.speech_metrics import count_word_errors, diarization_errors, normalised

Samples = NDArray[np.float32]

_SAMPLES: Final = Path(__file__).resolve().parents[1] / "samples"
_PAIRS: Final = 7
_RESAMPLED: Final = 4000

# pyannote/speaker-diarization-3.1 as published, except for the directories of the weights.
_PUBLISHED: Final = """\
dependencies:
  pyannote.audio: 4.0.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    segmentation: $model/segmentation
    segmentation_batch_size: 32
    embedding: $model/embedding
    embedding_batch_size: 32
    embedding_exclude_overlap: true
    plda: $model/plda
    clustering: AgglomerativeClustering
params:
  segmentation:
    min_duration_off: 0.0
  clustering:
    method: centroid
    min_cluster_size: 12
    threshold: 0.7045654963945799
"""


@dataclass(frozen=True)
class SpokenCall:
    """A call and its reference transcript."""

    reference: dict[str, Any]
    samples: Samples

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class SpeechBenchSetup:
    calls: Sequence[SpokenCall]
    pairs: int
    models: Path
    readings: int

    @property
    def seconds(self) -> float:
        return sum(call.seconds for call in self.calls)


def read_setup() -> SpeechBenchSetup:
    """The calls and the number of pairs from the command line. Loads no model."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=Path, default=_SAMPLES)
    parser.add_argument("--pairs", type=int, default=_PAIRS)
    parser.add_argument("--readings", type=int, default=RecognitionOptions.readings)
    parser.add_argument("--data", type=Path, default=Path("var"))
    options, _ = parser.parse_known_args()  # `./writecare bench NAME` has other arguments
    found = [path for path in sorted(options.calls.glob("*.json")) if path.with_suffix(".flac").exists()]
    calls = [
        SpokenCall(json.loads(path.read_text(encoding="utf-8")), _decoded(path.with_suffix(".flac"))) for path in found
    ]
    return SpeechBenchSetup(calls, options.pairs, options.data / "models", options.readings)


def _decoded(path: Path) -> Samples:
    return decode(path, max_seconds=3600).samples


def published_diarizer(models: Path) -> Diarizer:
    """The official pyannote.audio pipeline with its published settings, on our weights."""
    ours = weights.diarization_pipeline(models)
    directory = models / "benchmark-published-diarization"
    if not directory.is_dir():
        shutil.copytree(ours.location, directory)
    (directory / "config.yaml").write_text(_PUBLISHED, encoding="utf-8")
    return Diarizer(replace(ours, location=str(directory), version="published"))


def our_transcriber(setup: SpeechBenchSetup) -> Transcriber:
    """Recognition with the shipped settings; only the number of recognition passes may be changed."""
    return Transcriber(weights.whisper(setup.models), RecognitionOptions(readings=setup.readings))


class WhisperX:
    """`whisperx.load_model(...).transcribe(...)` with its defaults (float32 on a CPU), on our weights."""

    def __init__(self, models: Path) -> None:
        import whisperx  # noqa: PLC0415 - after telemetry is switched off

        location = weights.whisper(models).location
        self._model = whisperx.load_model(location, "cpu", language="en", local_files_only=True)

    def text(self, samples: Samples) -> str:
        found = self._model.transcribe(samples, batch_size=8)  # the batch size of its command line
        return " ".join(segment["text"] for segment in found["segments"])


def time_in_turns(pairs: int, ours: Callable[[], None], theirs: Callable[[], None]) -> list[tuple[float, float]]:
    """Seconds of both for each pair. They run one after the other and alternate in who starts, to share other load."""
    ours()  # warm-up
    theirs()
    taken = []
    for number in range(pairs):
        order = [ours, theirs] if number % 2 == 0 else [theirs, ours]
        spent = {work: _seconds(work) for work in order}
        taken.append((spent[ours], spent[theirs]))
    return taken


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(name: str, taken: Sequence[tuple[float, float]], seconds: float, accuracy: str) -> None:
    """Print the real-time factors of both, the median of the pairs' ratios with its 95 % interval, and the accuracy."""
    ratios = np.array([ours / theirs for ours, theirs in taken])
    random = np.random.default_rng(1)
    medians = np.median(random.choice(ratios, (_RESAMPLED, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    ours = statistics.median(one for one, _ in taken) / seconds
    theirs = statistics.median(other for _, other in taken) / seconds
    print(f"{name}: {seconds:.0f} s of calls, {len(taken)} pairs")
    print(f"real-time factor {ours:.3f}, baseline {theirs:.3f}")
    print(f"ratio {np.median(ratios):.2f} (95 % interval {low:.2f} to {high:.2f})")
    print(accuracy, flush=True)


def word_error_rate(calls: Sequence[SpokenCall], texts: Sequence[str]) -> float:
    """Word error rate in per cent, over all calls."""
    wrong = words = 0
    for call, text in zip(calls, texts, strict=True):
        turns = sorted(call.reference["turns"], key=lambda turn: turn["start"])
        said = normalised(" ".join(turn["text"] for turn in turns))
        wrong += count_word_errors(said, normalised(text))
        words += len(said.split())
    return 100 * wrong / words


def diarization_error_rate(calls: Sequence[SpokenCall], found: Sequence[Sequence[dict[str, Any]]]) -> float:
    """Diarization error rate in per cent. `found` are turns with `speaker`, `start_seconds` and `end_seconds`."""
    parts = np.array(
        [diarization_errors(call.reference["turns"], one, call.seconds) for call, one in zip(calls, found, strict=True)]
    )
    return float(100 * parts[:, :3].sum() / parts[:, 3].sum())


def as_turns(turns: Sequence[SpeakerTurn]) -> list[dict[str, Any]]:
    return [turn.model_dump() for turn in turns]
