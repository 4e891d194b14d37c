"""The knobs, read once at each process's entry point and passed inward. Nothing else reads the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One typed object a process. Each field can be set as `WRITECARE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="WRITECARE_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("var"), description="The folder that holds all state of this instance.")
    port: int = Field(default=8080, description="Where `up` listens: console, API, WebSockets and health.")
    host: str = Field(default="127.0.0.1", description="The address `up` binds to.")
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="An administrator's connection string; without it the embedded PostgreSQL is used.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Where encrypted recordings lie (s3://…, az://…, file:///…); without it, in the data folder.",
    )
    max_recording_seconds: float = Field(
        default=3 * 3600.0, gt=0, description="Longer recordings are refused before they are decoded."
    )
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="Larger uploads are refused.")
    requests_a_minute_user: int = Field(default=12_000, gt=0, description="Requests a minute of one person.")
    requests_a_minute_tenant: int = Field(
        default=120_000, gt=0, description="Requests a minute of one tenant's people."
    )
    limits_redis_url: SecretStr | None = Field(
        default=None,
        description="A Redis (redis://…) in which several API processes count requests together; without it, each "
        "counts its own.",
    )
    token_lifetime_seconds: int = Field(default=12 * 3600, gt=0, description="How long a signed token is good for.")
    issuer: str = Field(default="writecareconnect", description="The `iss` of tokens made and accepted here.")
    model_cpus: float = Field(default=2.0, gt=0, description="Processors that the model deployments share.")
    asr_model: str | None = Field(
        default=None, description="A larger Whisper (folder or hub name, e.g. large-v3-turbo) instead of the packaged."
    )
    asr_readings: int = Field(
        default=3, ge=1, le=3, description="How often a call is read before the readings vote: 1 is fastest, 3 best."
    )
    diarization_pipeline: str | None = Field(
        default=None, description="Another pyannote pipeline (folder or hub name) instead of the packaged."
    )
    hub_token: SecretStr | None = Field(default=None, description="Access token for gated models of a hub.")
    device: str = Field(default="cpu", description="Where models compute: cpu, cuda, cuda:0 …")
    summary_url: str | None = Field(
        default=None,
        description="A language model of your own machines that writes summaries (OpenAI-compatible, up to /v1); "
        "without it, and wherever its text fails the check of names and numbers, summaries quote.",
    )
    summary_model: str = Field(default="default", description="What that server calls the model.")
    summary_key: SecretStr | None = Field(default=None, description="That server's access token, if it wants one.")
    job_attempts: int = Field(
        default=10, ge=1, description="Tries of a job, with growing pauses, before its recording is parked."
    )
    stalled_after_seconds: float = Field(
        default=30.0, gt=0, description="A worker silent for this long is taken for dead and its job is given on."
    )
    audit_anchor_seconds: float = Field(
        default=300.0, gt=0, description="How often the heads of moved audit chains are anchored outside the database."
    )

    # Wiring: the launcher sets these for the processes it starts; each is given its own role's door alone.
    role_database_url: SecretStr | None = Field(default=None, description="Where this process logs in to PostgreSQL.")
    serve_url: str | None = Field(default=None, description="Where the model endpoints listen (Ray Serve).")
