"""Compares the whole speech stage (who said what) with whisperx followed by pyannote, in alternating runs.

    ./writecare bench speech

Ours is `pipelines/track_transcription.py`: recognition in parallel with diarization, then attribution. The baseline is
whisperx's recognition (see `benchmarks/transcription.py`), then the official pyannote pipeline (see
`benchmarks/diarization.py`), with the same weights and without attribution. A ratio under 1 means that ours is faster.
"""

import asyncio
import sys
from typing import Any

from benchmarks.speech_material import (
    WhisperX,
    as_turns,
    diarization_error_rate,
    our_transcriber,
    published_diarizer,
    read_setup,
    report,
    time_in_turns,
    word_error_rate,
)
from models.artefacts import weights
from models.speech.diarization import Diarizer
from pipelines.local_speech import SpeechInProcess
from pipelines.track_transcription import transcribe_single_track


def main() -> int:
    setup = read_setup()
    speech = SpeechInProcess(our_transcriber(setup), Diarizer(weights.diarization_pipeline(setup.models)))
    whisperx, published = WhisperX(setup.models), published_diarizer(setup.models)
    texts: dict[str, list[str]] = {}
    turns: dict[str, list[list[dict[str, Any]]]] = {}

    def ours() -> None:
        done = [asyncio.run(transcribe_single_track(call.samples, speech)).transcript for call in setup.calls]
        texts["ours"] = [" ".join(word.word for word in one.words) for one in done]
        turns["ours"] = [[utterance.model_dump() for utterance in one.utterances] for one in done]

    def theirs() -> None:
        texts["theirs"] = [whisperx.text(call.samples) for call in setup.calls]
        turns["theirs"] = [as_turns(published.diarize(call.samples)) for call in setup.calls]

    taken = time_in_turns(setup.pairs, ours, theirs)
    words = {name: word_error_rate(setup.calls, found) for name, found in texts.items()}
    speakers = {name: diarization_error_rate(setup.calls, found) for name, found in turns.items()}
    accuracy = (
        f"word error rate {words['ours']:.1f} %, baseline {words['theirs']:.1f} %; diarization error rate"
        f" {speakers['ours']:.1f} % and {speakers['theirs']:.1f} %"
    )
    report("speech against whisperx and pyannote", taken, setup.seconds, accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
