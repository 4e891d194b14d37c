"""From sound to words: each with its time and confidence, none lost and none invented.

On the walk: between `models/audio.py` (16 kHz mono) and `models/attribution.py` (who said it). The recogniser is
Whisper in CTranslate2 through faster-whisper, the engine of WhisperX; its objects do not leave this file.

Whisper decodes half-minute windows and, on a conversation, tends to stop at the first change of speaker: naive
settings lose up to 39 % of the words. So windows are cut in pauses and the beam is paid to go on. The call is read up
to three times, with windows cut in different places and once slowed down, and the readings vote
(`models/readings.py`); stretches of speech that still have no word are read again by themselves. Whisper also invents
words for silence and noise; the guards below are what keeps those out.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.transcribe import Segment, TranscriptionInfo
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray
from scipy.signal import resample_poly

from models.audio import SAMPLE_RATE
from models.readings import agreed
from models.records import Transcription, Word
from models.spelling import spelt
from models.weights import Weights

_METHOD: Final = "reading2"  # names this file's way in the version: a change of what it answers is another
_MAX_COMPRESSION: Final = 2.4  # Whisper's own limit: text that packs better than this repeats itself
_MIN_LOG_PROBABILITY: Final = -1.2
_UNSURE_LOG_PROBABILITY: Final = -0.5  # with a likely 'no speech' beside it: calls lie above -0.55 and below 0.15
_MAX_NO_SPEECH: Final = 0.5
_MIN_WORD_CONFIDENCE: Final = 0.08
_MIN_AGREED: Final = 0.4  # mean confidence of neighbours: calls lie above 0.55, babble near 0.3
_NEIGHBOURS: Final = 4  # words on either side
_NEIGHBOUR_SECONDS: Final = 4.0
_MIN_ALONE: Final = 0.5  # mean confidence of what was read only once
_REPEATS: Final = 4  # the same one to ten words this often in a row: a decoding loop, not speech
_WORD_SLACK_SECONDS: Final = 0.3  # word times from attention may lie this far outside the speech found
_EARLY_SECONDS: Final = 0.1  # times from attention lie this much before the sound (median; the same for all voices)
_PIECE_SECONDS: Final = 4.0  # what the speech detector hears at a time, each piece half over the one before
_WINDOW_SECONDS: Final = 28.0  # Whisper hears half a minute at a time
_LENGTH_PENALTY: Final = 1.5  # above 1 the beam prefers to go on where it would stop at a change of speaker
_FURTHER_BEAM: Final = 2  # of the readings after the first: half the work for the same vote
_SLOWED: Final = (20, 19)  # samples out of samples in: 5 % slower, and lower
_SILENCE_SECONDS: Final = 3.0  # reading by sentences passes over pauses as long as this
_GAP_SECONDS: Final = 0.8  # speech this long without a word is read again


@dataclass(frozen=True)
class RecognitionOptions:
    """How the recogniser runs. `language` None detects it; a GPU is `device="cuda", compute_type="float16"`.

    `readings`, 1 to 3: three make about 6 % fewer errors than one and take nearly three times as long.
    """

    device: str = "cpu"
    compute_type: str = "int8"
    threads: int = 2
    beam_size: int = 5
    batch_size: int = 8
    language: str | None = "en"
    readings: int = 3


class Transcriber:
    """Loads Whisper once and transcribes samples; safe to call from one thread at a time."""

    def __init__(self, weights: Weights, options: RecognitionOptions | None = None) -> None:
        self._options = options or RecognitionOptions()
        self.version = f"{weights.version}/{_METHOD}x{self._options.readings}"
        self._whisper = WhisperModel(
            weights.location,
            device=self._options.device,
            compute_type=self._options.compute_type,
            cpu_threads=self._options.threads,
            local_files_only=weights.is_local,
            use_auth_token=weights.hub_token,
        )
        self._batched = BatchedInferencePipeline(self._whisper)

    def transcribe(self, samples: NDArray[np.float32], *, names: Sequence[str] = ()) -> Transcription:
        """Transcribe float32[n] at 16 kHz mono; `names` are the participants', to spell a near miss of one right.

        Without speech the answer is empty. Raises nothing of its own.
        """
        speech = find_speech(samples)
        if not speech:
            return Transcription(words=(), speech=(), language=self._options.language or "en")
        first, language = self._by_windows(samples, speech)
        ways = (self._by_sentences, self._slowly)[: self._options.readings - 1]
        further = [read(samples, speech, language) for read in ways]
        words = without_guesses(without_loops(agreed([first, *further])))
        words += [word for gap in _unread(words, speech) for word in self._read_again(samples, gap, speech)]
        words.sort(key=lambda word: (word.start_seconds, word.end_seconds))
        words = spelt(words, names, language=language)
        return Transcription(words=tuple(words), speech=speech, language=language)

    def _by_windows(
        self, samples: NDArray[np.float32], speech: Sequence[tuple[float, float]]
    ) -> tuple[list[Word], str]:
        """A reading of windows cut in pauses, and the language."""
        windows = _windows(speech, len(samples) / SAMPLE_RATE)
        segments, information = self._in_batches(samples, windows, self._options.beam_size, self._options.language)
        return _guarded(segments, speech), information.language

    def _slowly(self, samples: NDArray[np.float32], speech: Sequence[tuple[float, float]], language: str) -> list[Word]:
        """A reading of the same windows slowed down, and so a little lower."""
        slowed = resample_poly(samples, _SLOWED[0], _SLOWED[1]).astype(np.float32)
        pace = _SLOWED[1] / _SLOWED[0]
        windows = [
            {edge: at / pace for edge, at in window.items()} for window in _windows(speech, len(samples) / SAMPLE_RATE)
        ]
        segments, _ = self._in_batches(slowed, windows, min(_FURTHER_BEAM, self._options.beam_size), language)
        return _guarded(segments, speech, pace=pace)

    def _in_batches(
        self, samples: NDArray[np.float32], windows: list[dict[str, float]], beam_size: int, language: str | None
    ) -> tuple[Iterable[Segment], TranscriptionInfo]:
        return self._batched.transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            length_penalty=_LENGTH_PENALTY,
            batch_size=self._options.batch_size,
            word_timestamps=True,
            without_timestamps=False,
            vad_filter=False,
            clip_timestamps=windows,
        )

    def _by_sentences(
        self, samples: NDArray[np.float32], speech: Sequence[tuple[float, float]], language: str
    ) -> list[Word]:
        """A reading in which each window begins where the last sentence of the one before ended."""
        segments, _ = self._whisper.transcribe(
            samples,
            language=language,
            beam_size=min(_FURTHER_BEAM, self._options.beam_size),
            temperature=0.0,  # others are drawn by lot: the same call would read differently each time
            word_timestamps=True,
            condition_on_previous_text=False,  # one invented sentence would otherwise breed the next
            clip_timestamps=[edge for stretch in _without_silences(speech) for edge in stretch],
        )
        return _guarded(segments, speech)

    def _read_again(
        self, samples: NDArray[np.float32], gap: tuple[float, float], speech: Sequence[tuple[float, float]]
    ) -> list[Word]:
        """Words of a stretch that the first reading passed over, kept only where they fall inside it."""
        start = max(0.0, gap[0] - 0.2)
        cut = samples[int(start * SAMPLE_RATE) : int((gap[1] + 0.2) * SAMPLE_RATE)]
        segments, _ = self._whisper.transcribe(
            cut,
            language=self._options.language,
            beam_size=self._options.beam_size,
            length_penalty=_LENGTH_PENALTY,
            temperature=0.0,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        found = _guarded(segments, speech, offset=start)
        if not found or float(np.mean([word.confidence for word in found])) < _MIN_ALONE:
            return []
        return [word for word in found if gap[0] - 0.1 <= (word.start_seconds + word.end_seconds) / 2 <= gap[1] + 0.1]


def find_speech(samples: NDArray[np.float32]) -> tuple[tuple[float, float], ...]:
    """Stretches of speech (start, end in seconds) in float32[n] at 16 kHz mono, by Silero's detector.

    The detector remembers what it heard: after half a minute of quiet it misses the first three seconds of a voice
    on the telephone. So it starts afresh on short overlapping pieces, and what any of them finds counts.
    """
    options = _vad_options(pad_seconds=0.05, silence_seconds=0.3, shortest_seconds=0.1)
    step, length = round(_PIECE_SECONDS / 2 * SAMPLE_RATE), round(_PIECE_SECONDS * SAMPLE_RATE)
    stretches = [
        (at + found["start"], min(at + found["end"], len(samples)))
        for at in range(0, max(1, len(samples) - step), step)
        for found in get_speech_timestamps(samples[at : at + length], options)
        if len(samples) - at >= SAMPLE_RATE // 10
    ]
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start - joined[-1][1] < 0.3 * SAMPLE_RATE:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple((start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in joined)


def _windows(speech: Sequence[tuple[float, float]], length: float) -> list[dict[str, float]]:
    """Windows (start, end in seconds) of at most `_WINDOW_SECONDS`, cut in the pauses of speech where there are any."""
    windows: list[dict[str, float]] = []
    for found_start, found_end in speech:
        start, end = max(0.0, found_start - 0.15), min(length, found_end + 0.15)
        if windows and end - windows[-1]["start"] <= _WINDOW_SECONDS:
            windows[-1]["end"] = end
            continue
        while end - start > _WINDOW_SECONDS:
            windows.append({"start": start, "end": start + _WINDOW_SECONDS})
            start += _WINDOW_SECONDS
        windows.append({"start": start, "end": end})
    return windows


def _without_silences(speech: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The speech found with a little around it, pauses within included and long silences left out."""
    stretches: list[tuple[float, float]] = []
    for start, end in speech:
        if stretches and start - stretches[-1][1] < _SILENCE_SECONDS:
            stretches[-1] = (stretches[-1][0], end + 0.2)
        else:
            stretches.append((max(0.0, start - 0.2), end + 0.2))
    return stretches


def _vad_options(*, pad_seconds: float, silence_seconds: float, shortest_seconds: float = 0.0) -> VadOptions:
    return VadOptions(
        threshold=0.5,
        speech_pad_ms=round(pad_seconds * 1000),
        min_silence_duration_ms=round(silence_seconds * 1000),
        min_speech_duration_ms=round(shortest_seconds * 1000),
    )


# --- guards against invented words -----------------------------------------------------------------------------


def _guarded(
    segments: Iterable[Segment],
    speech: Sequence[tuple[float, float]],
    *,
    offset: float = 0.0,
    pace: float = 1.0,
) -> list[Word]:
    """The words that are believed; their times are moved by `offset` seconds, then multiplied by `pace`."""
    words: list[Word] = []
    for _, window in groupby(segments, key=lambda segment: segment.seek):
        together = list(window)
        if _invented(together):
            continue
        found = [_tight(word) for segment in together for word in _words(segment, offset, pace)]
        words += [word for word in found if word.confidence >= _MIN_WORD_CONFIDENCE and _is_heard(word, speech)]
    return without_loops(words)


def _words(segment: Segment, offset: float, pace: float) -> list[Word]:
    """The segment's words; a piece that no space precedes ('-call', '.02') belongs to the word before it."""
    words: list[Word] = []
    for piece in segment.words or ():
        end = round(
            (max(piece.start + 0.02, piece.end) + offset) * pace + _EARLY_SECONDS, 3
        )  # a clipped word still takes a moment
        if words and not piece.word.startswith(" "):
            words[-1] = words[-1].model_copy(update={"word": words[-1].word + piece.word, "end_seconds": end})
        elif re.search(r"\w", piece.word):
            words.append(
                Word(
                    word=piece.word.strip(),
                    start_seconds=round(max(0.0, piece.start + offset) * pace + _EARLY_SECONDS, 3),
                    end_seconds=end,
                    confidence=min(1.0, max(0.0, float(piece.probability))),
                )
            )
    return words


def _tight(word: Word) -> Word:
    """A word that lasts far longer than it can be spoken, cut to its end.

    Where Whisper skips a turn, the next word is stretched over it: cut, the skipped speech shows as unread.
    """
    digits = sum(letter.isdigit() for letter in word.word)
    spoken = 0.3 + 0.06 * (len(word.word) - digits) + 0.35 * digits
    if word.end_seconds - word.start_seconds <= max(1.0, 1.5 * spoken):
        return word
    return word.model_copy(update={"start_seconds": round(word.end_seconds - spoken, 3)})


def _invented(window: Sequence[Segment]) -> bool:
    """Whether what one window gave bears the marks of text made up over silence, noise or babble."""
    text = " ".join(segment.text for segment in window).encode()
    log_probability = float(np.mean([segment.avg_logprob for segment in window]))
    unsure = log_probability < _UNSURE_LOG_PROBABILITY and window[0].no_speech_prob > _MAX_NO_SPEECH
    looping = len(text) > 100 and len(text) / len(zlib.compress(text)) > _MAX_COMPRESSION
    return unsure or looping or log_probability < _MIN_LOG_PROBABILITY


def _is_heard(word: Word, speech: Sequence[tuple[float, float]]) -> bool:
    return any(
        word.start_seconds < end + _WORD_SLACK_SECONDS and word.end_seconds > start - _WORD_SLACK_SECONDS
        for start, end in speech
    )


def without_loops(words: list[Word]) -> list[Word]:
    """Leave one of any run of one to ten words that is repeated four times or more in a row.

    'No, no, no' stays; nobody says the same ten words four times over without a breath, decoders do.
    """
    plain = [re.sub(r"\W", "", word.word).lower() for word in words]
    kept: list[Word] = []
    index = 0
    while index < len(words):
        for size in range(1, 11):
            repeats = 1
            while plain[index : index + size] == plain[index + repeats * size : index + (repeats + 1) * size]:
                repeats += 1
            if repeats >= _REPEATS and index + size <= len(words):
                kept += words[index : index + size]
                index += repeats * size
                break
        else:
            kept.append(words[index])
            index += 1
    return kept


def without_guesses(words: Sequence[Word]) -> list[Word]:
    """Leave out words among which the readings hardly agree: what is read into babble differs each time.

    A single unsure word stays; eight neighbours whose mean confidence is under `_MIN_AGREED` do not.
    """
    kept: list[Word] = []
    for index, word in enumerate(words):
        around = words[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]
        near = [one.confidence for one in around if abs(one.start_seconds - word.start_seconds) < _NEIGHBOUR_SECONDS]
        if float(np.mean(near)) >= _MIN_AGREED:
            kept.append(word)
    return kept


def _unread(words: Sequence[Word], speech: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Parts of the speech found, of `_GAP_SECONDS` or more, in which no word lies."""
    gaps: list[tuple[float, float]] = []
    spans = sorted((word.start_seconds, word.end_seconds) for word in words)
    for start, end in speech:
        at = start
        for word_start, word_end in spans:
            if word_end <= start or word_start >= end:
                continue
            if word_start - at >= _GAP_SECONDS:
                gaps.append((at, word_start))
            at = max(at, word_end)
        if end - at >= _GAP_SECONDS:
            gaps.append((at, end))
    return gaps
