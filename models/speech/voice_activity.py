"""Finds the speech in a recording, raises quiet speech, and cuts windows for the recogniser.

Samples are float32[n] at 16 kHz mono. Times are seconds.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from models.audio.decoder import SAMPLE_RATE

TimeSpan = tuple[float, float]  # start, end

_PIECE_SECONDS: Final = 4.0  # length of the pieces for the speech detector; they overlap by half
_WINDOW_SECONDS: Final = 28.0  # Whisper decodes at most half a minute at a time
_SILENCE_SECONDS: Final = 3.0  # the reading by sentences skips pauses of this length
_GAP_SECONDS: Final = 0.8  # speech of this length without a word is recognised again
_FRAME: Final = SAMPLE_RATE * 3 // 100
_QUIET_DECIBELS: Final = -38.0  # if the loudest frames are below this, the speech detector finds no voice
_LOUD_DECIBELS: Final = -20.0  # the level to which such a recording is raised
_SILENT_DECIBELS: Final = -96.0  # below the last bit of 16-bit samples: there is nothing to raise
_SPEECHLIKE_DECIBELS: Final = 15.0  # difference between loud and quiet frames; noise and hum vary less


def raise_quiet_speech(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raise a quiet recording to the usual level of speech. A recording of usual level is returned unchanged."""
    loud = _level_percentile(samples, 99)
    if not _SILENT_DECIBELS < loud < _QUIET_DECIBELS:
        return samples
    gain = 10 ** ((_LOUD_DECIBELS - loud) / 20)
    return np.asarray(np.clip(samples * gain, -1.0, 1.0), dtype=np.float32)


def find_quiet_speech(samples: NDArray[np.float32]) -> list[TimeSpan]:
    """Time spans in a very quiet recording whose level varies like speech. For recordings without detected speech."""
    loud, quiet = _level_percentile(samples, 99), _level_percentile(samples, 10)
    if not _SILENT_DECIBELS < loud < _QUIET_DECIBELS or loud - quiet < _SPEECHLIKE_DECIBELS:
        return []
    heard = np.flatnonzero(_levels(samples) > loud - _SPEECHLIKE_DECIBELS)
    return merge_close([(at * _FRAME / SAMPLE_RATE, (at + 1) * _FRAME / SAMPLE_RATE) for at in heard], pause=1.0)


def find_speech(samples: NDArray[np.float32]) -> tuple[TimeSpan, ...]:
    """Time spans of speech, found by Silero's detector.

    The detector has a state: after half a minute of quiet it misses the first three seconds of a voice on the
    telephone. So it runs separately on short overlapping pieces, and the results of all pieces are joined.
    """
    options = VadOptions(threshold=0.5, speech_pad_ms=50, min_silence_duration_ms=300, min_speech_duration_ms=100)
    step, length = round(_PIECE_SECONDS / 2 * SAMPLE_RATE), round(_PIECE_SECONDS * SAMPLE_RATE)
    stretches = [
        ((at + found["start"]) / SAMPLE_RATE, min(at + found["end"], len(samples)) / SAMPLE_RATE)
        for at in range(0, max(1, len(samples) - step), step)
        for found in get_speech_timestamps(samples[at : at + length], options)
        if len(samples) - at >= SAMPLE_RATE // 10
    ]
    return tuple(merge_close(stretches, pause=0.3))


def merge_close(stretches: Sequence[TimeSpan], *, pause: float) -> list[TimeSpan]:
    """The time spans in order; spans that are less than `pause` apart are merged."""
    found: list[TimeSpan] = []
    for start, end in sorted(stretches):
        if found and start - found[-1][1] < pause:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def windows(speech: Sequence[TimeSpan], length: float) -> list[dict[str, float]]:
    """Windows (start, end) of at most `_WINDOW_SECONDS`, cut at pauses in the speech if there are any."""
    found: list[dict[str, float]] = []
    for found_start, found_end in speech:
        start, end = max(0.0, found_start - 0.15), min(length, found_end + 0.15)
        if found and end - found[-1]["start"] <= _WINDOW_SECONDS:
            found[-1]["end"] = end
            continue
        while end - start > _WINDOW_SECONDS:
            found.append({"start": start, "end": start + _WINDOW_SECONDS})
            start += _WINDOW_SECONDS
        found.append({"start": start, "end": end})
    return found


def drop_long_silences(speech: Sequence[TimeSpan]) -> list[TimeSpan]:
    """The time spans of speech with a margin, merged over short pauses; long silences are left out."""
    stretches: list[TimeSpan] = []
    for start, end in speech:
        if stretches and start - stretches[-1][1] < _SILENCE_SECONDS:
            stretches[-1] = (stretches[-1][0], end + 0.2)
        else:
            stretches.append((max(0.0, start - 0.2), end + 0.2))
    return stretches


def speech_without_words(
    spans: Sequence[TimeSpan], speech: Sequence[TimeSpan], *, longer: float = _GAP_SECONDS
) -> list[TimeSpan]:
    """The parts of the speech, of `longer` seconds or more, that contain none of the words' `spans`."""
    gaps: list[TimeSpan] = []
    for start, end in speech:
        at = start
        for word_start, word_end in sorted(spans):
            if word_end <= start or word_start >= end:
                continue
            if word_start - at >= longer:
                gaps.append((at, word_start))
            at = max(at, word_end)
        if end - at >= longer:
            gaps.append((at, end))
    return gaps


def _levels(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 1e-12))
    return levels


def _level_percentile(samples: NDArray[np.float32], percentile: float) -> float:
    """The given percentile of the frames' levels, in dB of full scale."""
    levels = _levels(samples)
    return float(np.percentile(levels, percentile)) if len(levels) else -120.0
