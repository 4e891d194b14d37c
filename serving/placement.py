"""Resources of the replicas, read from the settings once and passed to every deployment."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comms.kernel.settings import Settings
from models.artefacts.weights import SpeechWeights
from serving.chat_completions import ChatCompletions

if TYPE_CHECKING:
    from models.speech.transcription import RecognitionOptions

APPLICATION: Final = "models"

# The CPU share of `settings.model_cpus` that Ray counts for each deployment. Ray uses it only for scheduling. The
# number of threads of a replica is `ReplicaSettings.threads`; the kernel shares the processors among busy replicas.
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
    """`models`: the weights' directory. `verified_dir`: cache of checked digests. `threads`: of a computing replica."""

    models: Path
    device: str
    threads: int
    speech: SpeechWeights
    readings: int  # how often a call is recognised before the results are combined by vote
    language: str | None = None  # the language of all calls; None: it is detected
    writer: ChatCompletions | None = None  # writes summaries; None if the home has no language model
    deeper: ChatCompletions | None = None  # reads unsure turns again; None if the home has no such model

    def recognition_options(self) -> "RecognitionOptions":
        """The settings of the recogniser."""
        from models.speech.transcription import RecognitionOptions  # noqa: PLC0415 - takes seconds, only one replica needs it

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
            deeper=_deeper(settings),
        )


def _summary_writer(settings: Settings) -> ChatCompletions | None:
    if settings.summary_url is None:
        return None
    key = settings.summary_key
    return ChatCompletions(settings.summary_url, settings.summary_model, key.get_secret_value() if key else None)


def _deeper(settings: Settings) -> ChatCompletions | None:
    if settings.deeper_reader_url is None:
        return None
    key = settings.deeper_reader_key
    return ChatCompletions(
        settings.deeper_reader_url,
        settings.deeper_reader_model,
        key.get_secret_value() if key else None,
        settings.deeper_reader_seconds,
    )
