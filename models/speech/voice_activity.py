"""Where in a sound somebody speaks, and how loud: what recognition needs to know before it looks for words.

All functions take float32[n] at 16 kHz mono. Times are seconds.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from models.audio.decoder import SAMPLE_RATE

TimeSpan = tuple[float, float]  # start, end

_PIECE_SECONDS: Final = 4.0  # what the speech detector hears at a time, each piece half over the one before
_WINDOW_SECONDS: Final = 28.0  # Whisper hears half a minute at a time
_SILENCE_SECONDS: Final = 3.0  # reading by sentences passes over pauses as long as this
_GAP_SECONDS: Final = 0.8  # speech this long without a word is read again
_FRAME: Final = SAMPLE_RATE * 3 // 100
_QUIET_DECIBELS: Final = -38.0  # loudest frames below this: the speech detector hears nothing of a voice
_LOUD_DECIBELS: Final = -20.0  # to which such a sound is raised
_SILENT_DECIBELS: Final = -96.0  # below the last bit of 16: nothing is there that could be raised
_SPEECHLIKE_DECIBELS: Final = 15.0  # between loud and quiet frames; noise and hum are even


def raise_quiet_speech(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound with a quiet voice raised to the level of speech; a sound of usual level is returned as it is."""
    loud = _level_percentile(samples, 99)
    if not _SILENT_DECIBELS < loud < _QUIET_DECIBELS:
        return samples
    gain = 10 ** ((_LOUD_DECIBELS - loud) / 20)
    return np.asarray(np.clip(samples * gain, -1.0, 1.0), dtype=np.float32)


def find_quiet_speech(samples: NDArray[np.float32]) -> list[TimeSpan]:
    """Where a sound of very low level rises and falls as speech does; for sounds in which no speech was found."""
    loud, quiet = _level_percentile(samples, 99), _level_percentile(samples, 10)
    if not _SILENT_DECIBELS < loud < _QUIET_DECIBELS or loud - quiet < _SPEECHLIKE_DECIBELS:
        return []
    heard = np.flatnonzero(_levels(samples) > loud - _SPEECHLIKE_DECIBELS)
    return merge_close([(at * _FRAME / SAMPLE_RATE, (at + 1) * _FRAME / SAMPLE_RATE) for at in heard], pause=1.0)


def find_speech(samples: NDArray[np.float32]) -> tuple[TimeSpan, ...]:
    """Stretches of speech, by Silero's detector.

    The detector remembers what it heard: after half a minute of quiet it misses the first three seconds of a voice
    on the telephone. So it starts afresh on short overlapping pieces, and what any of them finds counts.
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
    """The stretches in order, those less than `pause` apart made one."""
    found: list[TimeSpan] = []
    for start, end in sorted(stretches):
        if found and start - found[-1][1] < pause:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def windows(speech: Sequence[TimeSpan], length: float) -> list[dict[str, float]]:
    """Windows (start, end) of at most `_WINDOW_SECONDS`, cut in the pauses of speech where there are any."""
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
    """The speech found with a little around it, pauses within included and long silences left out."""
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
    """Parts of the speech, of `longer` seconds or more, in which none of the words' `spans` lies."""
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
    """The level that so many per cent of the frames do not exceed, in dB of full scale."""
    levels = _levels(samples)
    return float(np.percentile(levels, percentile)) if len(levels) else -120.0
