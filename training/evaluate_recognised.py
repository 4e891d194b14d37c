"""Measures what recognition errors cost the analysis: concerns found in recognised and in written calls.

    python -m training.evaluate_recognised --calls DIR [DIR …] [--data DIR]

A call is `<id>.flac` with `<id>.json`, whose turns have `text`, `start`, `end` and `concerns`. After recognition a turn
counts as found if an utterance that overlaps it in time is flagged. The figures are in the model card.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from models.artefacts import weights
from models.audio.decoder import decode
from models.contract.records import Analysis, Conversation, Participant, Transcript, Turn
from models.speech.diarization import Diarizer
from models.speech.transcription import Transcriber
from models.text.analysis import TextModels, analyse
from pipelines.local_speech import SpeechInProcess
from pipelines.track_transcription import transcribe_single_track

_EDGE_SECONDS: Final = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, default=Path("var"))
    options = parser.parse_args()
    models = TextModels.load(options.data)
    directory = options.data / "models"
    speech = SpeechInProcess(Transcriber(weights.whisper(directory)), Diarizer(weights.diarization_pipeline(directory)))
    counts = dict.fromkeys(("concern turns", "found written", "found recognised", "lost", "gained"), 0)
    counts |= dict.fromkeys(("other turns", "flagged written", "flagged recognised"), 0)
    for call in (path for folder in options.calls for path in sorted(folder.glob("*.json"))):
        reference = json.loads(call.read_text(encoding="utf-8"))
        samples = decode(call.with_suffix(".flac"), max_seconds=3600).samples
        transcript = asyncio.run(transcribe_single_track(samples, speech)).transcript
        written = set(_flagged(analyse(_as_written(reference), models)))
        heard = set(_turns_heard(reference["turns"], transcript, models))
        for at, turn in enumerate(reference["turns"]):
            kind = ("concern turns", "found") if turn["concerns"] else ("other turns", "flagged")
            counts[kind[0]] += 1
            counts[f"{kind[1]} written"] += at in written
            counts[f"{kind[1]} recognised"] += at in heard
            if turn["concerns"]:
                counts["lost"] += at in written and at not in heard
                counts["gained"] += at in heard and at not in written
    print(json.dumps(counts, indent=1))


def _as_written(reference: dict[str, Any]) -> Conversation:
    people = tuple(Participant(speaker=one["speaker"], role=one["role"]) for one in reference["participants"])
    turns = tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in reference["turns"])
    return Conversation(id=reference["id"], participants=people, turns=turns)


def _flagged(analysis: Analysis) -> Iterator[int]:
    return (at for at, turn in enumerate(analysis.turns) if turn.concerns)


def _turns_heard(turns: Sequence[dict[str, Any]], transcript: Transcript, models: TextModels) -> Iterator[int]:
    """The turns that overlap in time with a flagged utterance. A third of a second at its edges does not count."""
    said = tuple(Turn(speaker=one.speaker, text=one.text) for one in transcript.utterances)
    flagged = [transcript.utterances[at] for at in _flagged(analyse(Conversation(id="recognised", turns=said), models))]
    for at, turn in enumerate(turns):
        start, end = turn["start"] + _EDGE_SECONDS, turn["end"] - _EDGE_SECONDS
        if any(one.start_seconds < end and one.end_seconds > start for one in flagged):
            yield at


if __name__ == "__main__":
    main()
