"""Makes a transcript from a recording's tracks: calls the speech models in the right order.

The worker, the model API and `./writecare transcribe` use it. It depends on neither the database nor Ray.
Recognition and diarization of a single track run in parallel.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from models.audio.decoder import SAMPLE_RATE, DecodedAudio, decode, refuse_too_long
from models.contract.audio_tracks import Channels
from models.contract.records import StageTiming, Transcript, Transcription
from models.speech import attribution
from pipelines.model_protocols import Samples, SpeechModels

Result = TypeVar("Result")


@dataclass(frozen=True)
class TranscribedCall:
    transcript: Transcript
    timings: tuple[StageTiming, ...]


def decode_call(
    sources: Sequence[Path | BinaryIO], *, max_seconds: float, channels: Channels, allow_unconfined: bool = False
) -> list[DecodedAudio]:
    """Decode the files of one call. If there are several files, each is a track, unless `channels` says otherwise.

    Raises the errors of `models.audio.decoder.decode`, and `too_large` (`audio-too-long`) if all tracks together
    are too long.
    """
    wanted: Channels = "mix" if channels == "auto" and len(sources) > 1 else channels
    decoded: list[DecodedAudio] = []
    for source in sources:
        decoded.append(decode(source, max_seconds=max_seconds, channels=wanted, allow_unconfined=allow_unconfined))
        refuse_too_long([one.info for one in decoded], max_seconds)
    return decoded


async def transcribe_call(
    tracks: Sequence[Samples],
    speech: SpeechModels,
    *,
    speakers: int | None = None,
    most_speakers: int | None = None,
    names: Sequence[str] = (),
    language: str | None = None,
) -> TranscribedCall:
    """Transcribe a call without speaker names. A single track is diarized; of several tracks, each is one speaker."""
    if len(tracks) == 1:
        return await transcribe_single_track(
            tracks[0], speech, speakers=speakers, most_speakers=most_speakers, names=names, language=language
        )
    labels = [f"Speaker {number}" for number in range(1, len(tracks) + 1)]
    return await transcribe_tracks(tracks, labels, speech, names=names, language=language)


async def transcribe_single_track(
    samples: Samples,
    speech: SpeechModels,
    *,
    speakers: int | None = None,
    most_speakers: int | None = None,
    names: Sequence[str] = (),
    language: str | None = None,
) -> TranscribedCall:
    """Transcribe a call on one track (float32[n], 16 kHz mono).

    `speakers` is the number of speakers if it is known, `most_speakers` an upper bound. `names` are the names of the
    participants, `language` is the spoken language if it is known.
    """
    duration = len(samples) / SAMPLE_RATE
    (transcription, first), (turns, second) = await asyncio.gather(
        _timed("transcription", duration, speech.transcribe(samples, names, language)),
        _timed("diarization", duration, speech.diarize(samples, speakers=speakers, most_speakers=most_speakers)),
    )
    attribution_work = asyncio.to_thread(
        attribution.transcript,
        transcription.words,
        turns,
        duration_seconds=round(duration, 3),
        language=transcription.language,
        not_understood=transcription.not_understood,
        models=_speech_versions(speech),
    )
    result, third = await _timed("attribution", duration, attribution_work)
    return TranscribedCall(result, (first, second, third))


async def transcribe_tracks(
    tracks: Sequence[Samples],
    labels: Sequence[str],
    speech: SpeechModels,
    *,
    names: Sequence[str] = (),
    language: str | None = None,
) -> TranscribedCall:
    """Transcribe a call with one track per participant (each float32[n], 16 kHz mono, aligned in time).

    Each track is one speaker, so nothing is diarized. `labels` name the speakers, one per track, all different.
    """
    duration = max((len(track) for track in tracks), default=0) / SAMPLE_RATE
    total = sum(len(track) for track in tracks) / SAMPLE_RATE
    transcriptions, first = await _timed(
        "transcription", total, _transcribe_sequentially(tracks, speech, names, language)
    )
    attribution_work = asyncio.to_thread(
        _merge_tracks, tracks, labels, transcriptions, duration, _speech_versions(speech)
    )
    result, second = await _timed("attribution", duration, attribution_work)
    return TranscribedCall(result, (first, second))


async def _transcribe_sequentially(
    tracks: Sequence[Samples], speech: SpeechModels, names: Sequence[str], language: str | None
) -> list[Transcription]:
    # One recogniser uses all processors. Recognising tracks in parallel would only need more memory.
    return [await speech.transcribe(track, names, language) for track in tracks]


def _merge_tracks(
    tracks: Sequence[Samples],
    labels: Sequence[str],
    transcriptions: Sequence[Transcription],
    duration: float,
    versions: Mapping[str, str],
) -> Transcript:
    return attribution.merge_tracks(
        [
            attribution.Track(label, one.words, one.speech, attribution.levels(samples, SAMPLE_RATE))
            for label, one, samples in zip(labels, transcriptions, tracks, strict=True)
        ],
        duration_seconds=round(duration, 3),
        language=_main_language(transcriptions),
        not_understood=[stretch for one in transcriptions for stretch in one.not_understood],
        models=versions,
    )


def _main_language(transcriptions: Sequence[Transcription]) -> str:
    """The language of the tracks. If they differ, the language that is spoken longest."""
    seconds: dict[str, float] = defaultdict(float)
    for one in transcriptions:
        seconds[one.language] += sum(end - start for start, end in one.speech)
    return max(seconds, key=lambda language: seconds[language])


def _speech_versions(speech: SpeechModels) -> dict[str, str]:
    return {name: version for name, version in speech.versions.items() if name in ("transcription", "diarization")}


async def transcribe_source(
    source: str,
    speech: SpeechModels,
    *,
    max_seconds: float,
    allow_unconfined: bool = False,
    speakers: int | None = None,
    names: Sequence[str] = (),
    channels: Channels = "auto",
    language: str | None = None,
) -> tuple[dict[str, Any], tuple[StageTiming, ...]]:
    """Transcribe a file, or the tracks of one call given as `a.flac+b.flac`. Returns the contract's JSON, and timings.

    Raises the `WriteCareError`s of `decode_call`, and `OSError` (such as `FileNotFoundError`) for an unusable path.
    """
    paths = source_paths(source)
    reading = asyncio.to_thread(
        decode_call, paths, max_seconds=max_seconds, channels=channels, allow_unconfined=allow_unconfined
    )
    decoded, decoding = await _timed("decoding", 0.0, reading)
    decoding = decoding.model_copy(update={"audio_seconds": sum(one.duration_seconds for one in decoded)})
    tracks = [track for one in decoded for track in one.tracks]
    done = await transcribe_call(tracks, speech, speakers=speakers, names=names, language=language)
    sound = [one.info.sound.model_dump(mode="json") for one in decoded]
    return {"source": source, **done.transcript.model_dump(mode="json"), "sound": sound}, (decoding, *done.timings)


def source_paths(source: str) -> list[Path]:
    """The files that a source names: the source itself if such a file exists, else the tracks joined by `+`."""
    if Path(source).exists():
        return [Path(source)]
    return [Path(part) for part in source.split("+")]


def rttm(transcript: dict[str, Any], name: str) -> str:
    """The utterances as NIST RTTM lines, one per stretch of speech. Utterances without a speaker are left out."""
    lines = []
    for utterance in transcript["utterances"]:
        if utterance["speaker"] is None:
            continue
        start = utterance["start_seconds"]
        length = utterance["end_seconds"] - start
        speaker = utterance["speaker"].replace(" ", "_")  # RTTM separates its fields by spaces
        lines.append(f"SPEAKER {name} 1 {start:.3f} {length:.3f} <NA> <NA> {speaker} <NA> <NA>\n")
    return "".join(lines)


async def _timed(stage: str, audio_seconds: float, work: Awaitable[Result]) -> tuple[Result, StageTiming]:
    started = time.perf_counter()
    answer = await work
    return answer, StageTiming(stage=stage, audio_seconds=audio_seconds, wall_seconds=time.perf_counter() - started)
