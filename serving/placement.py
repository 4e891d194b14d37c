"""Where and with how much the replicas run: read from the settings once, handed to every deployment."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comms.kernel.settings import Settings
from models.artefacts.weights import SpeechWeights
from serving.chat_completions import ChatCompletions

if TYPE_CHECKING:
    from models.speech.transcription import RecognitionOptions

APPLICATION: Final = "models"

# Which share of `settings.model_cpus` Ray counts for each deployment. Ray only schedules by it: how many threads a
# replica computes with is `ReplicaSettings.threads`, and the kernel shares the processors among those that have work.
CPU_SHARES: Final[dict[str, float]] = {
    "transcription": 0.30,
    "diarization": 0.25,
    "safeguarding": 0.15,
    "sentiment": 0.05,
    "actions": 0.05,
    "embedding": 0.05,
    "summarisation": 0.05,
    "risk": 0.05,
    "api": 0.05,
}


INGRESS: Final = "api"
DEPLOYMENTS: Final = tuple(name for name in CPU_SHARES if name != INGRESS)


@dataclass(frozen=True)
class ReplicaSettings:
    """`models`: where weights are laid out; `verified_dir`: remembered digests; `threads`: of one computing replica."""

    models: Path
    device: str
    threads: int
    speech: SpeechWeights
    readings: int  # of a call, before they vote
    language: str | None = None  # that all calls are in; None: it is detected
    writer: ChatCompletions | None = None  # of summaries, where the home has one

    def recognition_options(self) -> "RecognitionOptions":
        """How the recogniser runs here."""
        from models.speech.transcription import RecognitionOptions  # noqa: PLC0415 - seconds of libraries, for one replica

        return RecognitionOptions(
            device=self.device, threads=self.threads, readings=self.readings, language=self.language
        )

    @property
    def verified_dir(self) -> Path:
        return self.models / "verified"

    @classmethod
    def of(cls, settings: Settings) -> "ReplicaSettings":
        token = settings.hub_token
        return cls(
            models=settings.data_dir.resolve() / "models",
            device=settings.device,
            threads=max(1, round(settings.model_cpus)),
            speech=SpeechWeights(
                settings.asr_model, settings.diarization_pipeline, token.get_secret_value() if token else None
            ),
            readings=settings.asr_readings,
            language=settings.asr_language,
            writer=_summary_writer(settings),
        )


def _summary_writer(settings: Settings) -> ChatCompletions | None:
    if settings.summary_url is None:
        return None
    key = settings.summary_key
    return ChatCompletions(settings.summary_url, settings.summary_model, key.get_secret_value() if key else None)
