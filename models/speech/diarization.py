"""Finds out who speaks when in a recording (diarization), without identifying the speakers.

Its turns and the words of `models/speech/transcription.py` go to `models/speech/attribution.py`. It runs a
`pyannote.audio` pipeline from the local directory that `models/artefacts/weights.py` assembled, or the one that
settings name. Calls with one track for each participant need no diarization: each track is a speaker.
"""

import warnings
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.artefacts.weights import Weights
from models.audio.decoder import SAMPLE_RATE
from models.contract.errors import unavailable
from models.contract.records import SpeakerTurn

DEFAULT_MAX_SPEAKERS: Final = 8


class Diarizer:
    """Loads the pipeline once and finds speaker turns. Call it from only one thread at a time."""

    def __init__(self, weights: Weights, *, device: str = "cpu") -> None:
        self.version = weights.version
        self._pipeline = _load(weights).to(torch.device(device))

    def diarize(
        self,
        samples: NDArray[np.float32],
        *,
        min_speakers: int = 1,
        max_speakers: int = DEFAULT_MAX_SPEAKERS,
        num_speakers: int | None = None,
    ) -> tuple[SpeakerTurn, ...]:
        """Find the turns in float32[n] at 16 kHz mono, in order of start; turns of two speakers may overlap.

        Speakers are 'Speaker 1', 'Speaker 2' … in order of first speech. `num_speakers`, if given, overrides the
        bounds. Without speech the result is empty.
        """
        if len(samples) < SAMPLE_RATE // 4:
            return ()
        bounds: dict[str, int] = {"min_speakers": min_speakers, "max_speakers": max_speakers}
        if num_speakers is not None:
            bounds = {"num_speakers": num_speakers}
        waveform = torch.from_numpy(np.array(samples, dtype=np.float32)).unsqueeze(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # short calls give the warning 'detected speakers outside the bounds'
            found = self._pipeline({"waveform": waveform, "sample_rate": SAMPLE_RATE, "uri": "call"}, **bounds)
        tracks = [
            (float(segment.start), float(segment.end), str(label))
            for segment, _, label in found.speaker_diarization.itertracks(yield_label=True)
        ]
        return _number_speakers(sorted(tracks), len(samples) / SAMPLE_RATE)


def _load(weights: Weights) -> Any:
    # Importing pyannote starts the thread of its telemetry exporter, so it is imported only when needed. The exporter
    # is switched off before it sends anything.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec warns that FFmpeg is missing; we never decode with it
        from pyannote.audio import Pipeline  # noqa: PLC0415
        from pyannote.audio.telemetry import set_telemetry_metrics  # noqa: PLC0415

    set_telemetry_metrics(False)
    pipeline = Pipeline.from_pretrained(weights.location, token=weights.hub_token)
    if pipeline is None:
        raise unavailable(
            "weights-missing",
            f"The diarization pipeline {weights.version} could not be loaded. Check its name and the hub token.",
        )
    return pipeline


def _number_speakers(tracks: list[tuple[float, float, str]], length: float) -> tuple[SpeakerTurn, ...]:
    names: dict[str, str] = {}
    turns: list[SpeakerTurn] = []
    for start, end, label in tracks:
        name = names.setdefault(label, f"Speaker {len(names) + 1}")
        first, last = max(0.0, start), min(end, length)
        if last > first:
            turns.append(SpeakerTurn(speaker=name, start_seconds=round(first, 3), end_seconds=round(last, 3)))
    return tuple(turns)
