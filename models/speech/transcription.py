"""From sound to words: each with its time and confidence, none lost and none invented.

The recogniser is Whisper in CTranslate2 through faster-whisper, the engine of WhisperX; its objects do not leave this
file and `models/speech/hallucinations.py`.

Whisper decodes half-minute windows and, on a conversation, tends to stop at the first change of speaker: naive
settings lose up to 39 % of the words. So windows are cut in pauses and the beam is paid to go on. The call is read up
to three times, with windows cut in different places and once slowed down, and the readings vote
(`models/speech/rover.py`); a window in which the decoder repeats itself is decoded again without a beam, and stretches
of speech that still have no word are read again by themselves. Speech of which no word is believed is said to be not
understood, with its times: a person must listen there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.transcribe import Segment
from numpy.typing import NDArray
from scipy.signal import resample_poly

from models.artefacts.weights import WHISPER_VERSION, Weights
from models.audio.decoder import SAMPLE_RATE
from models.contract.records import NotUnderstood, NotUnderstoodReason, Transcription, Word
from models.speech.hallucinations import believed, may_loop, without_guesses
from models.speech.language_identification import (
    EXPECTED,
    READ_BY_BASE,
    UNDETERMINED,
    HeardWindow,
    main_language,
    parts,
    within,
)
from models.speech.rover import voted
from models.speech.spelling import spelt
from models.speech.voice_activity import (
    Stretch,
    find_speech,
    joined,
    levelled,
    too_quiet,
    windows,
    without_silences,
    without_words,
)

_METHOD: Final = "reading3"  # names this file's way in the version: a change of what it answers is another
_MIN_ALONE: Final = 0.5  # mean confidence of what was read only once
_LENGTH_PENALTY: Final = 1.5  # above 1 the beam prefers to go on where it would stop at a change of speaker
_FURTHER_BEAM: Final = 2  # of the readings after the first: half the work for the same vote
_GREEDY: Final = 0.01  # a temperature: faster-whisper decodes without a beam then, and so low always alike
_SLOWED: Final = (20, 19)  # samples out of samples in: 5 % slower, and lower
_UNHEARD_SECONDS: Final = 1.2  # speech this long without a believed word is for a person to listen to
_UNCLEAR_CONFIDENCE: Final = 0.4  # mean of a stretch of words in another language: below it is not understood
_APART_SECONDS: Final = 1.0  # stretches that are not understood and less than this apart are told as one


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
    language: str | None = None
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
        known = frozenset(self._whisper.supported_languages)
        self._readable = known & READ_BY_BASE if weights.version == WHISPER_VERSION else known

    def transcribe(
        self, samples: NDArray[np.float32], *, names: Sequence[str] = (), language: str | None = None
    ) -> Transcription:
        """Transcribe float32[n] at 16 kHz mono; `names` are the participants', to spell a near miss of one right.

        `language`: an ISO 639-1 code where the caller knows it; else that of the options, else it is detected.
        Nothing is translated. Raises nothing of its own.
        """
        given = language or self._options.language
        sound = levelled(samples)
        speech = find_speech(sound)
        if not speech:
            unheard = _told(too_quiet(samples), "too_quiet")
            return Transcription(words=(), speech=(), language=given or EXPECTED, not_understood=unheard)
        found = parts(self._languages(sound, speech, given), given or EXPECTED)
        words: list[Word] = []
        unclear: list[NotUnderstood] = []
        for part in found:
            inside = within(speech, part)
            if part.language not in self._readable and part.language != UNDETERMINED:
                unclear += _told(inside, "language_unsupported")
                continue
            spoken = EXPECTED if part.language == UNDETERMINED else part.language
            read = self._read(sound, inside, spoken)
            words += spelt(read, names, language=part.language)
            unclear += _unheard(read, inside, part.language)
        return Transcription(
            words=tuple(sorted(words, key=lambda word: (word.start_seconds, word.end_seconds))),
            speech=speech,
            language=main_language(found, given or EXPECTED),
            not_understood=tuple(sorted(unclear, key=lambda stretch: stretch.start_seconds)),
        )

    def _languages(
        self, samples: NDArray[np.float32], speech: Sequence[Stretch], given: str | None
    ) -> list[HeardWindow]:
        """The probability of each language in each window of speech."""
        heard = []
        for window in windows(speech, len(samples) / SAMPLE_RATE):
            start, end = window["start"], window["end"]
            if given is None:
                cut = samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
                chances = dict(self._whisper.detect_language(audio=cut)[2])
            else:
                chances = {given: 1.0}
            heard.append(HeardWindow(start, end, chances))
        return heard

    # --- readings ----------------------------------------------------------------------------------------------

    def _read(self, samples: NDArray[np.float32], speech: Sequence[Stretch], language: str) -> list[Word]:
        """The words of the stretches of speech, in order; what most readings have is among them."""
        ways = (self._by_windows, self._by_sentences, self._slowly)[: self._options.readings]
        readings = [read(samples, speech, language) for read in ways]
        words = without_guesses(voted(readings), majority=len(readings) // 2 + 1)
        for gap in without_words([_span(word) for word in words], speech):
            words += self._read_again(samples, gap, speech, language)
        return sorted(words, key=lambda word: (word.start_seconds, word.end_seconds))

    def _by_windows(self, samples: NDArray[np.float32], speech: Sequence[Stretch], language: str) -> list[Word]:
        """A reading of windows cut in pauses."""
        return self._in_batches(samples, speech, self._options.beam_size, language)

    def _slowly(self, samples: NDArray[np.float32], speech: Sequence[Stretch], language: str) -> list[Word]:
        """A reading of the same windows slowed down, and so a little lower."""
        slowed = resample_poly(samples, _SLOWED[0], _SLOWED[1]).astype(np.float32)
        beam_size = min(_FURTHER_BEAM, self._options.beam_size)
        return self._in_batches(slowed, speech, beam_size, language, pace=_SLOWED[1] / _SLOWED[0])

    def _in_batches(
        self,
        samples: NDArray[np.float32],
        speech: Sequence[Stretch],
        beam_size: int,
        language: str,
        *,
        pace: float = 1.0,
    ) -> list[Word]:
        cut = windows(speech, len(samples) / SAMPLE_RATE * pace)
        segments, _ = self._batched.transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            length_penalty=_LENGTH_PENALTY,
            batch_size=self._options.batch_size,
            word_timestamps=True,
            without_timestamps=False,
            vad_filter=False,
            clip_timestamps=[{edge: at / pace for edge, at in window.items()} for window in cut],
        )
        words: list[Word] = []
        for seek, group in groupby(segments, key=lambda segment: segment.seek):
            window = list(group)
            if may_loop(window):
                end = min((edges["end"] / pace for edges in cut if edges["end"] / pace > seek / 100), default=None)
                again = self._one_by_one(samples, [seek / 100, *([end] if end else [])], language, [_GREEDY])
                window = again if again and not may_loop(again) else window
            words += believed(window, speech, pace=pace)
        return words

    def _by_sentences(self, samples: NDArray[np.float32], speech: Sequence[Stretch], language: str) -> list[Word]:
        """A reading in which each window begins where the last sentence of the one before ended."""
        edges = [edge for stretch in without_silences(speech) for edge in stretch]
        segments = self._one_by_one(samples, edges, language, [0.0, _GREEDY])
        return _of_windows(segments, speech)

    def _one_by_one(
        self, samples: NDArray[np.float32], edges: list[float], language: str, temperatures: list[float]
    ) -> list[Segment]:
        """Each window decoded at the first of the temperatures at which it is no loop."""
        segments, _ = self._whisper.transcribe(
            samples,
            language=language,
            beam_size=min(_FURTHER_BEAM, self._options.beam_size),
            best_of=1,
            temperature=temperatures,
            log_prob_threshold=None,
            word_timestamps=True,
            condition_on_previous_text=False,  # one invented sentence would otherwise breed the next
            clip_timestamps=edges,
        )
        return list(segments)

    def _read_again(
        self, samples: NDArray[np.float32], gap: Stretch, speech: Sequence[Stretch], language: str
    ) -> list[Word]:
        """Words of a stretch that the readings passed over, kept only where they fall inside it."""
        start = max(0.0, gap[0] - 0.2)
        segments, _ = self._whisper.transcribe(
            samples[int(start * SAMPLE_RATE) : int((gap[1] + 0.2) * SAMPLE_RATE)],
            language=language,
            beam_size=self._options.beam_size,
            length_penalty=_LENGTH_PENALTY,
            temperature=0.0,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        found = _of_windows(segments, speech, offset=start)
        if not found or float(np.mean([word.confidence for word in found])) < _MIN_ALONE:
            return []
        return [word for word in found if gap[0] - 0.1 <= (word.start_seconds + word.end_seconds) / 2 <= gap[1] + 0.1]


def _of_windows(segments: Iterable[Segment], speech: Sequence[Stretch], *, offset: float = 0.0) -> list[Word]:
    windows_of = groupby(segments, key=lambda segment: segment.seek)
    return [word for _, window in windows_of for word in believed(list(window), speech, offset=offset)]


# --- what a person must listen to ----------------------------------------------------------------------------------


def _unheard(words: Sequence[Word], speech: Sequence[Stretch], language: str) -> list[NotUnderstood]:
    """The stretches of speech of which the words are not known, or not in which language they are."""
    if language == UNDETERMINED:
        return _told(speech, "language_uncertain")
    if language != EXPECTED and words and float(np.mean([word.confidence for word in words])) < _UNCLEAR_CONFIDENCE:
        return _told(speech, "unclear")
    return _told(without_words([_span(word) for word in words], speech, longer=_UNHEARD_SECONDS), "unclear")


def _told(stretches: Sequence[Stretch], reason: NotUnderstoodReason) -> list[NotUnderstood]:
    return [
        NotUnderstood(start_seconds=round(start, 3), end_seconds=round(end, 3), reason=reason)
        for start, end in joined(stretches, pause=_APART_SECONDS)
    ]


def _span(word: Word) -> Stretch:
    return word.start_seconds, word.end_seconds
