"""Recognises the words of a recording, each with its times and confidence.

The recogniser is Whisper in CTranslate2, through faster-whisper (the engine of WhisperX). Only this file and
`models/speech/hallucinations.py` use its objects.

Whisper decodes windows of half a minute. On a conversation it tends to stop at the first change of speaker: with
default settings up to 39 % of the words are lost. So windows are cut at pauses, and a length penalty makes the beam
search continue. The call is recognised up to three times (three readings), with windows cut in different places and
once slowed down, and the readings vote (`models/speech/rover.py`). A window with a decoding loop is decoded again
without a beam. Speech that still has no words is recognised again separately. Speech without any reliable word is
reported as not understood, with its times: a person must listen to it.
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

_METHOD_VERSION: Final = "reading3"  # part of the version; change it with every change of this file's results
_MIN_ALONE: Final = 0.5  # least mean confidence of words that were recognised only once
_LENGTH_PENALTY: Final = 1.5  # above 1, the beam search continues where it would stop at a change of speaker
_FURTHER_BEAM: Final = 2  # beam of the readings after the first: half the work, and the vote is as good
_GREEDY_TEMPERATURE: Final = 0.01  # above 0, so faster-whisper decodes without a beam; small, so it is deterministic
_SLOWED: Final = (20, 19)  # samples out, samples in: 5 % slower, and lower in pitch
_UNHEARD_SECONDS: Final = 1.2  # speech of this length without a reliable word is reported as not understood
_UNCLEAR_CONFIDENCE: Final = 0.4  # foreign speech with a lower mean confidence is reported as not understood
_MERGE_SECONDS: Final = 1.0  # parts that are not understood are merged if they are closer than this


@dataclass(frozen=True)
class RecognitionOptions:
    """Options of the recogniser. `language` None: detect it. For a GPU: `device="cuda", compute_type="float16"`.

    `readings`, 1 to 3: three readings make about 6 % fewer errors than one, and take nearly three times as long.
    """

    device: str = "cpu"
    compute_type: str = "int8"
    threads: int = 2
    beam_size: int = 5
    batch_size: int = 8
    language: str | None = None
    readings: int = 3


class Transcriber:
    """Loads Whisper once and transcribes samples. Call it from only one thread at a time."""

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
        """Transcribe float32[n] at 16 kHz mono. `names`: the participants', to correct their spelling.

        `language`: an ISO 639-1 code if the caller knows it; otherwise that of the options; otherwise it is detected.
        Nothing is translated.
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
        """The words of the speech, in order, after the vote of the readings."""
        pass_functions = (self._window_pass, self._sentence_pass, self._slowed_pass)[: self._options.readings]
        readings = [read(samples, speech, language) for read in pass_functions]
        words = drop_disputed_words(vote(readings), majority=len(readings) // 2 + 1)
        for gap in speech_without_words([_span(word) for word in words], speech):
            words += self._recognise_gap(samples, gap, speech, language)
        return sorted(words, key=lambda word: (word.start_seconds, word.end_seconds))

    def _window_pass(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """A reading with windows cut at pauses."""
        return self._batched_pass(samples, speech, self._options.beam_size, language)

    def _slowed_pass(self, samples: NDArray[np.float32], speech: Sequence[TimeSpan], language: str) -> list[Word]:
        """A reading of the same windows, slowed down, and so a little lower in pitch."""
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
        """A reading in which each window begins at the end of the last sentence of the window before."""
        edges = [edge for stretch in drop_long_silences(speech) for edge in stretch]
        segments = self._decode_windows(samples, edges, language, [0.0, _GREEDY_TEMPERATURE])
        return _words_of_windows(segments, speech)

    def _decode_windows(
        self, samples: NDArray[np.float32], edges: list[float], language: str, temperatures: list[float]
    ) -> list[Segment]:
        """Decode each window at the first temperature that gives no decoding loop."""
        segments, _ = self._whisper.transcribe(
            samples,
            language=language,
            beam_size=min(_FURTHER_BEAM, self._options.beam_size),
            best_of=1,
            temperature=temperatures,
            log_prob_threshold=None,
            word_timestamps=True,
            condition_on_previous_text=False,  # otherwise one invented sentence leads to more
            clip_timestamps=edges,
        )
        return list(segments)

    def _recognise_gap(
        self, samples: NDArray[np.float32], gap: TimeSpan, speech: Sequence[TimeSpan], language: str
    ) -> list[Word]:
        """Recognise a span of speech that the readings skipped. Only words inside the span are kept."""
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


# --- speech that was not understood --------------------------------------------------------------------------------


def _find_not_understood(words: Sequence[Word], speech: Sequence[TimeSpan], language: str) -> list[NotUnderstood]:
    """The parts of the speech whose words or language are not known."""
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
