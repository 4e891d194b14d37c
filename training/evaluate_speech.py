"""How good the words and the speakers are: WER, DER, cpWER, speaker count and real-time factors on spoken calls.

On the walk: beside it; the data scientist's measure of `pipelines/transcribing.py`, and the figures of the model
cards. A call is `<id>.flac` with `<id>.json` (turns with speaker, text, times) and `<id>.rttm`; where tracks
`<id>.S1.flac` … lie beside it, the call is measured on its tracks as well.

    python -m training.evaluate_speech --calls DIR [--data DIR] [--out FILE] [--speakers-known]

WER: jiwer after Whisper's EnglishTextNormalizer without its spelling map, on both sides. DER: pyannote.metrics
on the utterances, no collar, overlap scored, the whole file as evaluated map. cpWER: the words of each speaker
in one stream, hypothesis streams matched to reference streams so that errors are fewest (Watanabe et al. 2020,
CHiME-6); words without a speaker are a stream of their own.
"""

import argparse
import asyncio
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiwer
import numpy as np
from scipy.optimize import linear_sum_assignment
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from models import weights
from models.diarization import Diarizer
from models.records import StageTiming
from models.transcription import Transcriber
from pipelines import transcribing
from pipelines.in_process import SpeechInProcess

MAX_SECONDS: Final = 3 * 3600.0


@dataclass(frozen=True)
class Result:
    """The figures of one call. Errors are counts, so that calls can be summed; DER parts are seconds."""

    name: str
    seconds: float
    reference_words: int
    word_errors: int
    permuted_errors: int
    speech_seconds: float
    missed: float
    false_alarm: float
    confusion: float
    speakers_reference: int
    speakers_found: int
    timings: tuple[StageTiming, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("var"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speakers-known", action="store_true", help="tell diarization the number of speakers")
    options = parser.parse_args()
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    warnings.simplefilter("ignore")
    transcriber = Transcriber(weights.whisper(options.data / "models"))
    diarizer = Diarizer(weights.diarization_pipeline(options.data / "models"))
    mixed, tracked = [], []
    for reference_path in sorted(options.calls.glob("*.json")):
        reference = json.loads(reference_path.read_text(encoding="utf-8"))
        audio = reference_path.with_suffix(".flac")
        number = len({turn["speaker"] for turn in reference["turns"]}) if options.speakers_known else None
        mixed.append(evaluate(reference, str(audio), transcriber, diarizer, speakers=number))
        tracks = sorted(options.calls.glob(f"{reference_path.stem}.S*.flac"))
        if tracks:
            tracked.append(evaluate(reference, "+".join(map(str, tracks)), transcriber, diarizer))
    text = f"{table(mixed)}\n\nOn tracks (a track is a speaker):\n\n{table(tracked)}\n" if tracked else table(mixed)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def evaluate(
    reference: Mapping[str, Any],
    source: str,
    transcriber: Transcriber,
    diarizer: Diarizer,
    *,
    speakers: int | None = None,
) -> Result:
    """Transcribe one call and compare it with its reference."""
    speech = SpeechInProcess(transcriber, diarizer)
    found, timings = asyncio.run(
        transcribing.transcribe_source(source, speech, max_seconds=MAX_SECONDS, speakers=speakers)
    )
    said, heard = streams(reference["turns"], "speaker", "text"), streams(found["words"], "speaker", "word")
    normalise = EnglishTextNormalizer({})
    turns = sorted(reference["turns"], key=lambda turn: turn["start"])
    whole = normalise(" ".join(turn["text"] for turn in turns))
    guess = normalise(" ".join(word["word"] for word in found["words"]))
    missed, false_alarm, confusion, total = diarization_errors(turns, found["utterances"], found["duration_seconds"])
    return Result(
        name=str(reference["id"]),
        seconds=found["duration_seconds"],
        reference_words=len(whole.split()),
        word_errors=errors(whole, guess),
        permuted_errors=permuted_errors(list(said.values()), list(heard.values())),
        speech_seconds=total,
        missed=missed,
        false_alarm=false_alarm,
        confusion=confusion,
        speakers_reference=len(said),
        speakers_found=len(found["speakers"]),
        timings=timings,
    )


def streams(items: Sequence[Mapping[str, Any]], speaker: str, text: str) -> dict[str, str]:
    """All that each speaker said, normalised, in order."""
    normalise = EnglishTextNormalizer({})
    spoken: dict[str, list[str]] = defaultdict(list)
    for item in items:
        spoken[str(item[speaker])].append(item[text])
    return {name: normalise(" ".join(parts)) for name, parts in spoken.items()}


def errors(reference: str, hypothesis: str) -> int:
    """Substitutions, deletions and insertions between two normalised texts."""
    if not reference:
        return len(hypothesis.split())
    counts = jiwer.process_words(reference, hypothesis)
    return int(counts.substitutions + counts.deletions + counts.insertions)


def permuted_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The fewest word errors over all matchings of streams; a stream without a partner is all errors."""
    size = max(len(reference), len(hypothesis))
    padded_reference = [*reference, *[""] * (size - len(reference))]
    padded_hypothesis = [*hypothesis, *[""] * (size - len(hypothesis))]
    costs = np.array([[errors(one, other) for other in padded_hypothesis] for one in padded_reference])
    rows, columns = linear_sum_assignment(costs)
    return int(costs[rows, columns].sum())


def diarization_errors(
    turns: Sequence[Mapping[str, Any]], utterances: Sequence[Mapping[str, Any]], duration: float
) -> tuple[float, float, float, float]:
    """Missed, false-alarm and confused seconds of the utterances, and the seconds of speech in the reference."""
    from pyannote.core import Annotation, Segment, Timeline  # noqa: PLC0415 - after telemetry is switched off
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


def table(results: Sequence[Result]) -> str:
    """A Markdown table, a row a call and a weighted last row."""
    lines = [
        "| call | s | WER | DER | miss | false alarm | confusion | spk ref | spk found | cpWER | RTF asr | RTF diar |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(result.name, [result]) for result in results),
        _row("**all (weighted)**", results),
    ]
    return "\n".join(lines)


def _row(name: str, results: Sequence[Result]) -> str:
    words = sum(result.reference_words for result in results)
    speech = sum(result.speech_seconds for result in results)
    missed = sum(result.missed for result in results) / speech
    false_alarm = sum(result.false_alarm for result in results) / speech
    confusion = sum(result.confusion for result in results) / speech
    if len(results) == 1:
        reference, found = str(results[0].speakers_reference), str(results[0].speakers_found)
    else:
        right = sum(result.speakers_reference == result.speakers_found for result in results)
        reference, found = "", f"{right}/{len(results)} right"
    cells = [
        name,
        f"{sum(result.seconds for result in results):.1f}",
        _percent(sum(result.word_errors for result in results) / words),
        _percent(missed + false_alarm + confusion),
        _percent(missed),
        _percent(false_alarm),
        _percent(confusion),
        reference,
        found,
        _percent(sum(result.permuted_errors for result in results) / words),
        _factor(results, "transcription"),
        _factor(results, "diarization"),
    ]
    return f"| {' | '.join(cells)} |"


def _factor(results: Sequence[Result], stage: str) -> str:
    timings = [timing for result in results for timing in result.timings if timing.stage == stage]
    seconds = sum(timing.audio_seconds for timing in timings)
    return f"{sum(timing.wall_seconds for timing in timings) / seconds:.2f}" if seconds else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


if __name__ == "__main__":
    main()
