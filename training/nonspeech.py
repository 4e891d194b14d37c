"""Sounds without words that a recogniser should write down: silence, hum, noise, music, babble.

`training/evaluate_speech.py --nonspeech` and the tests of transcription require that they give no words. All are
generated here, float32 at 16 kHz mono; babble is mixed from the caller's voices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.audio.decoder import SAMPLE_RATE

Sound = NDArray[np.float32]
_CHORDS: Final = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))  # semitones over the key
_MELODY: Final = (12, 14, 16, 12, 16, 19, 17, 16, 14, 12, 11, 14, 12, 7, 9, 12)
_BABBLERS: Final = 8


def sounds(voices: Sequence[Sound], seconds: float, *, seed: int = 1) -> Mapping[str, Sound]:
    """Each kind of sound by name, float32[seconds * 16000]. Without `voices` there is no babble."""
    length = round(seconds * SAMPLE_RATE)
    random = np.random.default_rng(seed)
    made: dict[str, Callable[[], NDArray[np.float64]]] = {
        "silence": lambda: np.zeros(length),
        "faint noise": lambda: random.normal(0, 0.0005, length),
        "mains hum": lambda: _hum(length) + random.normal(0, 0.001, length),
        "white noise": lambda: random.normal(0, 0.05, length),
        "pink noise": lambda: 0.05 * _pink(length, random),
        "music": lambda: _music(length, random),
    }
    if voices:
        made["babble"] = lambda: _babble(voices, length, random)
        made["babble, reversed"] = lambda: _babble([voice[::-1] for voice in voices], length, random)
        made["babble, far"] = lambda: _through_wall(_babble(voices, length, random), random)
    return {name: np.asarray(make(), dtype=np.float32) for name, make in made.items()}


def _hum(length: int) -> NDArray[np.float64]:
    time = np.arange(length) / SAMPLE_RATE
    return np.asarray(sum(0.15 / number * np.sin(2 * np.pi * 50 * number * time) for number in (1, 2, 3, 5, 7)))


def _pink(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(random.normal(size=length))
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
    noise = np.fft.irfft(spectrum, length)
    return np.asarray(noise / noise.std())


def _music(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A melody over chords and a beat, two notes a second, in a new key every 16 notes."""
    step = SAMPLE_RATE // 2
    time = np.arange(step) / SAMPLE_RATE
    fade = np.minimum(1, time / 0.01) * np.exp(-2.5 * time)
    music = np.zeros(length)
    key = 220.0
    for number, start in enumerate(range(0, length, step)):
        if number % len(_MELODY) == 0:
            key = 220 * 2 ** (float(random.integers(-5, 6)) / 12)
        notes = [_MELODY[number % len(_MELODY)], *(one - 12 for one in _CHORDS[number // 4 % len(_CHORDS)])]
        note = sum(_tone(key * 2 ** (one / 12), time) for one in notes) * fade
        note[: step // 8] += random.normal(0, 0.1, step // 8) * np.exp(-60 * time[: step // 8])
        music[start : start + step] += note[: length - start]
    return np.asarray(0.2 * music / np.abs(music).max())


def _tone(frequency: float, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sum(np.sin(2 * np.pi * frequency * over * time) / over**1.5 for over in (1, 2, 3, 4)))


def _babble(voices: Sequence[Sound], length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Eight voices at once without pauses, all equally loud: no word can be understood."""
    mixed = np.zeros(length)
    for number in range(_BABBLERS):
        voice = _without_pauses(voices[number % len(voices)])
        rolled = np.resize(np.roll(voice, int(random.integers(len(voice)))), length)
        mixed += rolled / max(1e-6, float(np.sqrt(np.mean(np.square(voice)))))
    return 0.05 * mixed / mixed.std()


def _without_pauses(voice: Sound) -> Sound:
    frames = voice[: len(voice) // 320 * 320].reshape(-1, 320)  # 20 ms
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    spoken = frames[level > 0.3 * np.sqrt(np.mean(np.square(level)))]
    return np.asarray(spoken.reshape(-1) if len(spoken) else voice)


def _through_wall(sound: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """The sound as heard through a wall: dull, reverberant and quiet."""
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    room = random.normal(size=len(time)) * np.exp(-9 * time)
    size = len(sound) + len(room)
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(room, size)
    spectrum /= 1 + (np.fft.rfftfreq(size, 1 / SAMPLE_RATE) / 900) ** 2
    dull = np.fft.irfft(spectrum, size)[: len(sound)]
    return np.asarray(0.02 * dull / dull.std())
