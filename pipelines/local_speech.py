"""Runs the speech models in the current process, without Ray. The command line uses it."""

import asyncio
from collections.abc import Mapping, Sequence

from models.contract.records import SpeakerTurn, Transcription
from models.speech.diarization import DEFAULT_MAX_SPEAKERS, Diarizer
from models.speech.transcription import Transcriber
from pipelines.model_protocols import Samples


class SpeechInProcess:
    """Implements `pipelines.model_protocols.SpeechModels`. Both models release the GIL while they compute."""

    def __init__(self, transcriber: Transcriber, diarizer: Diarizer) -> None:
        self._transcriber = transcriber
        self._diarizer = diarizer
        self._versions: dict[str, str] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        self._versions["transcription"] = self._transcriber.version
        return await asyncio.to_thread(self._transcriber.transcribe, samples, names=names, language=language)

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        self._versions["diarization"] = self._diarizer.version
        most = most_speakers or DEFAULT_MAX_SPEAKERS
        return await asyncio.to_thread(self._diarizer.diarize, samples, max_speakers=most, num_speakers=speakers)
