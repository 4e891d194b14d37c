"""Diarization against the official pyannote.audio pipeline: turns of a call, the same weights, in turn.

    ./writecare bench diarization

Yardstick: `pyannote.audio.pipelines.SpeakerDiarization` with the settings published for version 3.1 (centroid linkage,
threshold 0.7046, at least twelve windows), on the same segmentation and the same embedding; the threshold was published
for another embedding. A ratio under 1 is faster.
"""

import sys
from typing import Any

from benchmarks.speech_material import as_turns, diarization_error_rate, in_turn, published_diarizer, report, setting
from models.artefacts import weights
from models.speech.diarization import Diarizer


def main() -> int:
    given = setting()
    diarizer, published = Diarizer(weights.diarization_pipeline(given.models)), published_diarizer(given.models)
    found: dict[str, list[list[dict[str, Any]]]] = {}

    def ours() -> None:
        found["ours"] = [as_turns(diarizer.diarize(call.samples)) for call in given.calls]

    def theirs() -> None:
        found["theirs"] = [as_turns(published.diarize(call.samples)) for call in given.calls]

    taken = in_turn(given.pairs, ours, theirs)
    rates = {name: diarization_error_rate(given.calls, turns) for name, turns in found.items()}
    right = {
        name: sum(
            len({turn["speaker"] for turn in one}) == len({turn["speaker"] for turn in call.reference["turns"]})
            for one, call in zip(turns, given.calls, strict=True)
        )
        for name, turns in found.items()
    }
    accuracy = (
        f"diarization error rate {rates['ours']:.1f} %, of the yardstick {rates['theirs']:.1f} %; number of speakers"
        f" right in {right['ours']} and {right['theirs']} of {len(given.calls)}"
    )
    report("diarization against pyannote", taken, given.seconds, accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
