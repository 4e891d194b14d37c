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
from models.speech.hallucinations import drop_disputed_words, keep_believed_words, may_be_loop
from models.speech.language_identification import (
    DEFAULT_LANGUAGE,
    UNDETERMINED,
    WHISPER_BASE_LANGUAGES,
    WindowLanguages,
    clip_to_part,
    main_language,
    split_by_language,
)
from models.speech.rover import vote
from models.speech.spelling import correct_spelling
from models.speech.voice_activity import (
    TimeSpan,
    drop_long_silences,
    find_quiet_speech,
    find_speech,
    merge_close,
    raise_quiet_speech,
    speech_without_words,
    windows,
)

_METHOD_VERSION: Final = "reading3"  # names this file's way in the version: a change of what it answers is another
_MIN_ALONE: Final = 0.5  # mean confidence of what was read only once
_LENGTH_PENALTY: Final = 1.5  # above 1 the beam prefers to go on where it would stop at a change of speaker
_FURTHER_BEAM: Final = 2  # of the readings after the first: half the work for the same vote
_GREEDY_TEMPERATURE: Final = 0.01  # a temperature: faster-whisper decodes without a beam then, and so low always alike
_SLOWED: Final = (20, 19)  # samples out of samples in: 5 % slower, and lower
_UNHEARD_SECONDS: Final = 1.2  # speech this long without a believed word is for a person to listen to
_UNCLEAR_CONFIDENCE: Final = 0.4  # mean of a stretch of words in another language: below it is not understood
_MERGE_SECONDS: Final = 1.0  # stretches that are not understood and less than this apart are told as one


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
        self.version = f"{weights.version}/{_METHOD_VERSION}x{self._options.readings}"
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
        self._readable = known & WHISPER_BASE_LANGUAGES if weights.version == WHISPER_VERSION else known

    def transcribe(
        self, samples: NDArray[np.float32], *, names: Sequence[str] = (), language: str | None = None
    ) -> Transcription:
        """Transcribe float32[n] at 16 kHz mono; `names` are the participants', to spell a near miss of one right.

        `language`: an ISO 639-1 code where the caller knows it; else that of the options, else it is detected.
        Nothing is translated. Raises nothing of its own.
        """
        known_language = language or self._options.language
        sound = raise_quiet_speech(samples)
        speech = find_speech(sound)
        if not speech:
            unheard = _not_understood(find_quiet_speech(samples), "too_quiet")
            return Transcription(
                words=(), speech=(), language=known_language or DEFAULT_LANGUAGE, not_understood=unheard
            )
        found = split_by_language(
            self._window_languages(sound, speech, known_language), known_language or DEFAULT_LANGUAGE
        )
        words: list[Word] = []
        unclear: list[NotUnderstood] = []
        for part in found:
            inside = clip_to_part(speech, part)
            if part.language not in self._readable and part.language != UNDETERMINED:
                unclear += _not_understood(inside, "language_unsupported")
                continue
            spoken = DEFAULT_LANGUAGE if part.language == UNDETERMINED else part.language
            read = self._recognise(sound, inside, spoken)
            words += correct_spelling(read, names, language=part.language)
            unclear += _find_not_understood(read, inside, part.language)
        return Transcription(
            words=tuple(sorted(words, key=lambda word: (word.start_seconds, word.end_seconds))),
            speech=speech,
            language=main_language(found, known_language or DEFAULT_LANGUAGE),
            not_understood=tuple(sorted(unclear, key=lambda stretch: stretch.start_seconds)),
        )

    def _window_languages(
        self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], known_language: str | None
    ) -> list[WindowLanguages]:
        """The probability of each language in each window of speech."""
        window_languages = []
        for window in windows(speech, len(samples) / SAMPLE_RATE):
            start, end = window["start"], window["end"]
            if known_language is None:
                cut = samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
                chances = dict(self._whisper.detect_language(audio=cut)[2])
            else:
                chances = {known_language: 1.0}
            window_languages.append(WindowLanguages(start, end, chances))
        return window_languages

    # --- readings ----------------------------------------------------------------------------------------------

    def _recognise(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """The words of the stretches of speech, in order; what most readings have is among them."""
        pass_functions = (self._window_pass, self._sentence_pass, self._slowed_pass)[: self._options.readings]
        readings = [read(samples, speech, language) for read in pass_functions]
        words = drop_disputed_words(vote(readings), majority=len(readings) // 2 + 1)
        for gap in speech_without_words([_span(word) for word in words], speech):
            words += self._recognise_gap(samples, gap, speech, language)
        return sorted(words, key=lambda word: (word.start_seconds, word.end_seconds))

    def _window_pass(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """A reading of windows cut in pauses."""
        return self._batched_pass(samples, speech, self._options.beam_size, language)

    def _slowed_pass(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """A reading of the same windows slowed down, and so a little lower."""
        slowed = resample_poly(samples, _SLOWED[0], _SLOWED[1]).astype(np.float32)
        beam_size = min(_FURTHER_BEAM, self._options.beam_size)
        return self._batched_pass(slowed, speech, beam_size, language, pace=_SLOWED[1] / _SLOWED[0])

    def _batched_pass(
        self,
        samples: NDArray[np.float32],
        speech: Sequence[TimeSpan],
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
            if may_be_loop(window):
                end = min((edges["end"] / pace for edges in cut if edges["end"] / pace > seek / 100), default=None)
                again = self._decode_windows(
                    samples, [seek / 100, *([end] if end else [])], language, [_GREEDY_TEMPERATURE]
                )
                window = again if again and not may_be_loop(again) else window
            words += keep_believed_words(window, speech, pace=pace)
        return words

    def _sentence_pass(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """A reading in which each window begins where the last sentence of the one before ended."""
        edges = [edge for stretch in drop_long_silences(speech) for edge in stretch]
        segments = self._decode_windows(samples, edges, language, [0.0, _GREEDY_TEMPERATURE])
        return _words_of_windows(segments, speech)

    def _decode_windows(
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

    def _recognise_gap(
        self, samples: NDArray[np.float32], gap: TimeSpan, speech: Sequence[TimeSpan], language: str
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
        found = _words_of_windows(segments, speech, offset=start)
        if not found or float(np.mean([word.confidence for word in found])) < _MIN_ALONE:
            return []
        return [word for word in found if gap[0] - 0.1 <= (word.start_seconds + word.end_seconds) / 2 <= gap[1] + 0.1]


def _words_of_windows(segments: Iterable[Segment], speech: Sequence[TimeSpan], *, offset: float = 0.0) -> list[Word]:
    windows_of = groupby(segments, key=lambda segment: segment.seek)
    return [word for _, window in windows_of for word in keep_believed_words(list(window), speech, offset=offset)]


# --- what a person must listen to ----------------------------------------------------------------------------------


def _find_not_understood(words: Sequence[Word], speech: Sequence[TimeSpan], language: str) -> list[NotUnderstood]:
    """The stretches of speech of which the words are not known, or not in which language they are."""
    if language == UNDETERMINED:
        return _not_understood(speech, "language_uncertain")
    if (
        language != DEFAULT_LANGUAGE
        and words
        and float(np.mean([word.confidence for word in words])) < _UNCLEAR_CONFIDENCE
    ):
        return _not_understood(speech, "unclear")
    return _not_understood(
        speech_without_words([_span(word) for word in words], speech, longer=_UNHEARD_SECONDS), "unclear"
    )


def _not_understood(stretches: Sequence[TimeSpan], reason: NotUnderstoodReason) -> list[NotUnderstood]:
    return [
        NotUnderstood(start_seconds=round(start, 3), end_seconds=round(end, 3), reason=reason)
        for start, end in merge_close(stretches, pause=_MERGE_SECONDS)
    ]


def _span(word: Word) -> TimeSpan:
    return word.start_seconds, word.end_seconds
