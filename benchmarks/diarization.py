"""Compares diarization with the official pyannote.audio pipeline, on the same weights, in alternating runs.

    ./writecare bench diarization

The baseline is `pyannote.audio.pipelines.SpeakerDiarization` with the settings published for version 3.1 (centroid
linkage, threshold 0.7046, at least twelve windows), on the same segmentation and embedding models; the threshold was
published for another embedding. A ratio under 1 means that ours is faster.
"""

import sys
from typing import Any

from benchmarks.speech_material import (
    as_turns,
    diarization_error_rate,
    published_diarizer,
    read_setup,
    report,
    time_in_turns,
)
from models.artefacts import weights
from models.speech.diarization import Diarizer


def main() -> int:
    setup = read_setup()
    diarizer, published = Diarizer(weights.diarization_pipeline(setup.models)), published_diarizer(setup.models)
    found: dict[str, list[list[dict[str, Any]]]] = {}

    def ours() -> None:
        found["ours"] = [as_turns(diarizer.diarize(call.samples)) for call in setup.calls]

    def theirs() -> None:
        found["theirs"] = [as_turns(published.diarize(call.samples)) for call in setup.calls]

    taken = time_in_turns(setup.pairs, ours, theirs)
    rates = {name: diarization_error_rate(setup.calls, turns) for name, turns in found.items()}
    right = {
        name: sum(
            len({turn["speaker"] for turn in one}) == len({turn["speaker"] for turn in call.reference["turns"]})
            for one, call in zip(turns, setup.calls, strict=True)
        )
        for name, turns in found.items()
    }
    accuracy = (
        f"diarization error rate {rates['ours']:.1f} %, baseline {rates['theirs']:.1f} %; number of speakers"
        f" right in {right['ours']} and {right['theirs']} of {len(setup.calls)}"
    )
    report("diarization against pyannote", taken, setup.seconds, accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
