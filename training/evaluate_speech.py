"""Evaluates speech: WER, DER, cpWER, attribution tax, word times, speed; and invented words.

Measures `pipelines/track_transcription.py` for the model cards. A call is `<id>.flac` with `<id>.json` (turns with
speaker, text, times, and `words` with `start` if the times of words are known) and `<id>.rttm`. If tracks
`<id>.S1.flac` … are beside it, the call is also measured on its tracks. Metrics: `training/speech_metrics.py`; sounds
without words: `training/nonspeech.py`.

    python -m training.evaluate_speech --calls DIR [--data DIR] [--out FILE] [--speakers-known]
    python -m training.evaluate_speech --calls DIR --nonspeech 10 [--data DIR] [--out FILE]

`tax` is cpWER minus ORC-WER; `tax (whisperx)` is the same if `whisperx.assign_word_speakers` with its defaults assigns
the same words to the same turns. Both are computed only on the mixed track.
"""

import argparse
import asyncio
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.artefacts import weights
from models.audio.decoder import decode
from models.contract.records import SpeakerTurn, StageTiming, Transcription
from models.speech.diarization import Diarizer
from models.speech.transcription import Transcriber
from pipelines import track_transcription
from pipelines.local_speech import SpeechInProcess
from pipelines.model_protocols import Samples
from training import nonspeech
from training.speech_metrics import (
    count_word_errors,
    cp_word_errors,
    diarization_errors,
    normalised,
    orc_word_errors,
    speaker_streams,
    time_errors,
)

MAX_SECONDS: Final = 3 * 3600.0
ONE_SOUND_SECONDS: Final = 60.0  # generated one minute at a time


@dataclass(frozen=True)
class Result:
    """The figures of one call. Errors are counts, so that calls can be summed; DER parts are seconds.

    `orc_word_errors` are those of ORC-WER; `whisperx_cp_errors` and `whisperx_orc_errors` are the same with whisperx's
    attribution (None on tracks). `blank_words` have no speaker. `time_errors` are seconds, one per word.
    """

    name: str
    seconds: float
    reference_words: int
    word_errors: int
    cp_word_errors: int
    orc_word_errors: int
    whisperx_cp_errors: int | None
    whisperx_orc_errors: int | None
    blank_words: int
    words: int
    time_errors: tuple[float, ...]
    speech_seconds: float
    missed: float
    false_alarm: float
    confusion: float
    speakers_reference: int
    speakers_found: int
    timings: tuple[StageTiming, ...]


class RecordingSpeechModels:
    """Speech models that also keep their last answer. Implements `pipelines.model_protocols.SpeechModels`."""

    def __init__(self, speech: SpeechInProcess) -> None:
        self._speech = speech
        self.words: Transcription | None = None
        self.turns: tuple[SpeakerTurn, ...] | None = None

    @property
    def versions(self) -> Mapping[str, str]:
        return self._speech.versions

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        self.words = await self._speech.transcribe(samples, names, language)
        return self.words

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        self.turns = await self._speech.diarize(samples, speakers=speakers, most_speakers=most_speakers)
        return self.turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("var"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speakers-known", action="store_true", help="give diarization the number of speakers")
    parser.add_argument(
        "--nonspeech",
        type=float,
        metavar="MINUTES",
        help="instead: words per minute in so many minutes of each sound without words",
    )
    options = parser.parse_args()
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    warnings.simplefilter("ignore")
    transcriber = Transcriber(weights.whisper(options.data / "models"))
    if options.nonspeech:
        text = invented_table(transcriber, options.calls, options.nonspeech)
    else:
        diarizer = Diarizer(weights.diarization_pipeline(options.data / "models"))
        text = calls_table(options.calls, transcriber, diarizer, speakers_known=options.speakers_known)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def calls_table(calls: Path, transcriber: Transcriber, diarizer: Diarizer, *, speakers_known: bool) -> str:
    """The figures of every call in a folder, mixed and on tracks, as Markdown."""
    mixed, tracked = [], []
    for reference_path in sorted(calls.glob("*.json")):
        reference = json.loads(reference_path.read_text(encoding="utf-8"))
        number = len({turn["speaker"] for turn in reference["turns"]}) if speakers_known else None
        mixed.append(
            evaluate(reference, str(reference_path.with_suffix(".flac")), transcriber, diarizer, speakers=number)
        )
        tracks = sorted(calls.glob(f"{reference_path.stem}.S*.flac"))
        if tracks:
            tracked.append(evaluate(reference, "+".join(map(str, tracks)), transcriber, diarizer))
    text = f"{table(mixed)}\n\n{word_times(mixed)}"
    return f"{text}\n\nOn tracks (a track is a speaker):\n\n{table(tracked)}" if tracked else text


def evaluate(
    reference: Mapping[str, Any],
    source: str,
    transcriber: Transcriber,
    diarizer: Diarizer,
    *,
    speakers: int | None = None,
) -> Result:
    """Transcribe one call and compare it with its reference."""
    speech = RecordingSpeechModels(SpeechInProcess(transcriber, diarizer))
    found, timings = asyncio.run(
        track_transcription.transcribe_source(source, speech, max_seconds=MAX_SECONDS, speakers=speakers)
    )
    turns = sorted(reference["turns"], key=lambda turn: turn["start"])
    said, heard = speaker_streams(turns, "speaker", "text"), speaker_streams(found["words"], "speaker", "word")
    utterances = [normalised(turn["text"]) for turn in turns]
    whole = " ".join(utterances)
    guess = normalised(" ".join(word["word"] for word in found["words"]))
    missed, false_alarm, confusion, total = diarization_errors(turns, found["utterances"], found["duration_seconds"])
    theirs = None
    if speech.words is not None and speech.turns is not None:
        theirs = list(speaker_streams(assigned_by_whisperx(speech.words, speech.turns), "speaker", "word").values())
    return Result(
        name=str(reference["id"]),
        seconds=found["duration_seconds"],
        reference_words=len(whole.split()),
        word_errors=count_word_errors(whole, guess),
        cp_word_errors=cp_word_errors(list(said.values()), list(heard.values())),
        orc_word_errors=orc_word_errors(utterances, list(heard.values())),
        whisperx_cp_errors=None if theirs is None else cp_word_errors(list(said.values()), theirs),
        whisperx_orc_errors=None if theirs is None else orc_word_errors(utterances, theirs),
        blank_words=sum(word["speaker"] is None for word in found["words"]),
        words=len(found["words"]),
        time_errors=tuple(time_errors(turns, found["words"])),
        speech_seconds=total,
        missed=missed,
        false_alarm=false_alarm,
        confusion=confusion,
        speakers_reference=len(said),
        speakers_found=len(found["speakers"]),
        timings=timings,
    )


def assigned_by_whisperx(transcription: Transcription, turns: Sequence[SpeakerTurn]) -> list[dict[str, Any]]:
    """The same words assigned to the same turns by `whisperx.assign_word_speakers` with its defaults."""
    import pandas  # noqa: PLC0415 - whisperx imports pyannote, so only after telemetry is off
    from whisperx.diarize import assign_word_speakers  # noqa: PLC0415

    words = [{"word": word.word, "start": word.start_seconds, "end": word.end_seconds} for word in transcription.words]
    if not words or not turns:
        return [{**word, "speaker": None} for word in words]
    frame = pandas.DataFrame(
        [{"start": turn.start_seconds, "end": turn.end_seconds, "speaker": turn.speaker} for turn in turns]
    )
    segment = {"start": words[0]["start"], "end": words[-1]["end"], "words": words}
    given = assign_word_speakers(frame, {"segments": [segment]})
    return [{**word, "speaker": word.get("speaker")} for word in given["segments"][0]["words"]]


# --- sounds without words ----------------------------------------------------------------------------------------


def invented_table(transcriber: Transcriber, calls: Path, minutes: float) -> str:
    """Words per minute in `minutes` of each sound without words, as Markdown. Babble is made of the calls' voices."""
    voices = [decode(path, max_seconds=MAX_SECONDS).samples for path in sorted(calls.glob("*.flac"))]
    found: dict[str, int] = {}
    rounds = max(1, round(minutes * 60 / ONE_SOUND_SECONDS))
    for number in range(rounds):
        for name, sound in nonspeech.sounds(voices, ONE_SOUND_SECONDS, seed=number).items():
            found[name] = found.get(name, 0) + len(transcriber.transcribe(sound).words)
    spent = rounds * ONE_SOUND_SECONDS / 60
    rows = [f"| {name} | {words} | {words / spent:.2f} |" for name, words in found.items()]
    return "\n".join([f"| {spent:.0f} min of | words | words a minute |", "|---|---|---|", *rows])


# --- tables ------------------------------------------------------------------------------------------------------


def word_times(results: Sequence[Result]) -> str:
    """One sentence on the times of words, if they are known."""
    off = [error for result in results for error in result.time_errors]
    if not off:
        return "Times of words: not known for these calls."
    median, most = np.percentile(off, [50, 95])
    return (
        f"Times of words (beginning, {len(off)} heard right): {median:.3f} s off at the median, {most:.3f} s at 95 %."
    )


def table(results: Sequence[Result]) -> str:
    """A Markdown table with one row per call and a weighted last row."""
    head = "call | s | WER | DER | miss | false alarm | confusion | spk ref | spk found | cpWER | ORC-WER | tax"
    lines = [
        f"| {head} | cpWER (whisperx) | tax (whisperx) | blank | RTF asr | RTF diar |",
        "|" + "---|" * 17,
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
    permuted = sum(result.cp_word_errors for result in results) / words
    unattributed = sum(result.orc_word_errors for result in results) / words
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
        _percent(permuted),
        _percent(unattributed),
        _percent(permuted - unattributed),
        *_of_whisperx(results, words),
        _percent(sum(result.blank_words for result in results) / max(1, sum(result.words for result in results))),
        _factor(results, "transcription"),
        _factor(results, "diarization"),
    ]
    return f"| {' | '.join(cells)} |"


def _of_whisperx(results: Sequence[Result], words: int) -> tuple[str, str]:
    """cpWER and tax of whisperx's attribution; empty on tracks."""
    pairs = [
        (result.whisperx_cp_errors, result.whisperx_orc_errors)
        for result in results
        if result.whisperx_cp_errors is not None and result.whisperx_orc_errors is not None
    ]
    if not pairs:
        return "", ""
    permuted, unattributed = sum(one for one, _ in pairs), sum(other for _, other in pairs)
    return _percent(permuted / words), _percent((permuted - unattributed) / words)


def _factor(results: Sequence[Result], stage: str) -> str:
    timings = [timing for result in results for timing in result.timings if timing.stage == stage]
    seconds = sum(timing.audio_seconds for timing in timings)
    return f"{sum(timing.wall_seconds for timing in timings) / seconds:.2f}" if seconds else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


if __name__ == "__main__":
    main()
