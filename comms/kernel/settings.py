"""The settings of a process, read from the environment once, at its entry point, and passed on as a parameter.

No other code reads the environment.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from comms.kernel.access.roles import PRIVILEGED, Role

ProxyHeader = Literal["x-forwarded-for", "forwarded"]
_AT_HOME: Final[tuple[Role, ...]] = ("external", "resident")  # they use a device of their own


class Settings(BaseSettings):
    """One typed object per process. Each field can be set as `WRITECARE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="WRITECARE_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("var"), description="The folder that holds all state of this instance.")
    port: int = Field(default=8080, description="The port of `up`: console, API, WebSockets and health.")
    host: str = Field(default="127.0.0.1", description="The address `up` binds to.")
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="The connection string of an administrator; without it the embedded PostgreSQL is used.",
    )
    storage_url: str | None = Field(
        default=None,
        description="The storage of encrypted recordings and attachments (s3://…, az://…, file:///…); without it, "
        "the data folder.",
    )
    max_recording_seconds: float = Field(
        default=3 * 3600.0, gt=0, description="Longer recordings are refused before they are decoded."
    )
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="Larger uploads are refused.")
    max_attachment_bytes: int = Field(
        default=25 * 1024**2, gt=0, description="Larger attachments of messages are refused."
    )
    recording_decoders: int = Field(
        default=3,
        ge=2,
        description="How many recordings an API process opens at a time; one tenant gets at most one fewer.",
    )
    attachment_decoders: int = Field(
        default=3,
        ge=2,
        description="How many attachments an API process opens at a time; one tenant gets at most one fewer.",
    )
    decoder_wait_seconds: float = Field(
        default=30.0, gt=0, description="An upload that waits longer to be opened is answered 503 with Retry-After."
    )
    allow_unconfined_decoding: bool = Field(
        default=False,
        description="Open uploaded files even if this kernel cannot confine the child process that opens them.",
    )
    clamd_url: str | None = Field(
        default=None,
        description="A ClamAV daemon that scans attachments (tcp://host:3310, unix:/run/clamav/clamd.ctl). While it "
        "is down, attachments are refused; without it, they are not scanned for malware.",
    )
    requests_a_minute_user: int = Field(default=12_000, gt=0, description="Requests per minute of one person.")
    requests_a_minute_tenant: int = Field(
        default=120_000, gt=0, description="Requests per minute of all people of one tenant."
    )
    api_processes: int = Field(
        default=1, ge=1, le=64,
        description="How many API processes serve the port; each uses one processor when it is busy.",
    )  # fmt: skip
    limits_redis_url: SecretStr | None = Field(
        default=None,
        description="A Redis (redis://…) in which several API processes count requests together; without it, each "
        "process counts only its own.",
    )
    token_lifetime_seconds: int = Field(default=12 * 3600, gt=0, description="How long a signed token is valid.")
    access_token_seconds: int = Field(
        default=900, gt=0, description="How long the access token of a sign-in is valid before it must be refreshed."
    )
    idle_seconds: int = Field(
        default=3600,
        gt=0,
        description="A sign-in ends if it is not refreshed for this long; for roles not named below.",
    )
    sign_in_seconds: int = Field(
        default=12 * 3600, gt=0, description="The longest duration of a sign-in (a shift); for roles not named below."
    )
    idle_seconds_by_role: dict[Role, int] = Field(
        default_factory=lambda: dict.fromkeys(sorted(PRIVILEGED), 1800) | dict.fromkeys(_AT_HOME, 4 * 3600),
        description="idle_seconds for single roles (a JSON object): shorter if they read alerts or manage accounts.",
    )
    sign_in_seconds_by_role: dict[Role, int] = Field(
        default_factory=lambda: dict.fromkeys(_AT_HOME, 24 * 3600),
        description="sign_in_seconds for single roles (a JSON object).",
    )
    second_factor_roles: frozenset[Role] = Field(
        default=PRIVILEGED,
        description="Roles that can do nothing until they have set up a second factor (a JSON list).",
    )
    passwords_beside_single_sign_on: bool = Field(
        default=False, description="Whether a person who uses single sign-on may also have a password here."
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description='Networks of the proxies that are trusted to report client addresses: ["10.0.0.0/8"]. Without it, '
        "the address of the connection is used.",
    )
    proxy_header: ProxyHeader = Field(
        default="x-forwarded-for",
        description="The header that those proxies write: x-forwarded-for or forwarded. The other is ignored.",
    )
    requests_a_minute_address: int = Field(
        default=600, gt=0, description="Requests per minute without a token from one address (IPv6: from one /64)."
    )
    smtp_host: str | None = Field(
        default=None, description="The server that sends e-mail to people; without it, codes are printed."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="That server's port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="Encryption of the connection; none only for a server on this machine."
    )
    smtp_user: str | None = Field(default=None, description="The user name for that server, if it needs one.")
    smtp_password: SecretStr | None = Field(default=None, description="The password for that server.")
    mail_from: str = Field(default="writecareconnect@localhost", description="The sender address of e-mail to people.")
    operator_tenant: str = Field(
        default="operator", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The slug of the tenant whose platform administrators see and create all tenants; those of other "
        "tenants see only their own.",
    )  # fmt: skip
    public_url: str | None = Field(
        default=None,
        description="The URL for browsers, e.g. https://connect.example; without it, host and port are used.",
    )
    allowed_hosts: frozenset[str] = Field(
        default=frozenset(),
        description="Accepted host names (a JSON list); other names are refused with 421. Without it, the name in the "
        "public URL; without that, every name. This machine's own names are always accepted.",
    )
    oidc_issuer: str | None = Field(
        default=None, description="The issuer URL of the single sign-on provider (OpenID Connect), e.g. WriteCareNotes."
    )
    oidc_client_id: str | None = Field(default=None, description="The client id of this installation at the provider.")
    oidc_client_secret: SecretStr | None = Field(default=None, description="The client secret at the provider, if any.")
    oidc_scopes: str = Field(
        default="openid profile email",
        description="The scopes to request; a verified e-mail address finds the person's other account.",
    )
    oidc_tenant_claim: str = Field(default="tenant", description="The claim that holds the tenant's slug.")
    oidc_user_claim: str = Field(
        default="preferred_username",
        description="The claim that becomes the person's slug (- replaces characters that a slug cannot have).",
    )
    oidc_name_claim: str = Field(default="name", description="The claim that holds the person's name.")
    oidc_role_claim: str = Field(default="role", description="The claim that holds a role, or a list with one.")
    oidc_roles: dict[str, Role] = Field(
        default_factory=dict,
        description="The role here for each value of that claim (JSON); other values are refused.",
    )
    oidc_second_factor_acr: tuple[str, ...] = Field(
        default=(),
        description="Values of the claim acr that mean two factors (a JSON list); the provider is asked for them.",
    )
    oidc_provider_checks_second_factor: bool = Field(
        default=False,
        description="Whether the provider always checks two factors, even if its tokens (amr, acr) do not say so.",
    )
    operations_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="The token that supervisors and Prometheus send as `Authorization: Bearer …` to read /metrics and "
        "/health/detailed; without it, the one in keys/operations.token of the data folder, made at the first start.",
    )
    issuer: str = Field(
        default="writecareconnect", description="The `iss` of tokens that are issued and accepted here."
    )
    model_cpus: float = Field(
        default=2.0, gt=0, description="The number of processors that the model deployments share."
    )
    asr_model: str | None = Field(
        default=None,
        description="A larger Whisper model (folder or hub name, e.g. large-v3-turbo) instead of the packaged one.",
    )
    asr_readings: int = Field(
        default=3,
        ge=1,
        le=3,
        description="How many transcriptions of a call are combined by vote: 1 is fastest, 3 is best.",
    )
    asr_language: str | None = Field(
        default=None,
        pattern="^[a-z]{2,3}$",
        description="The language of all recordings (ISO 639-1, e.g. en, cy); without it, it is detected.",
    )
    diarization_pipeline: str | None = Field(
        default=None, description="Another pyannote pipeline (folder or hub name) instead of the packaged one."
    )
    hub_token: SecretStr | None = Field(default=None, description="The access token for gated models of a model hub.")
    device: str = Field(default="cpu", description="The device that runs the models: cpu, cuda, cuda:0 …")
    summary_url: str | None = Field(
        default=None,
        description="The URL of a language model on your own machines that writes summaries (OpenAI-compatible, up to "
        "/v1). Without it, or if its text fails the check of names and numbers, summaries quote the conversation.",
    )
    summary_model: str = Field(default="default", description="The name of the model on that server.")
    summary_key: SecretStr | None = Field(default=None, description="The access token of that server, if it needs one.")
    deeper_reader_url: str | None = Field(
        default=None,
        description="An instruct model on your own machines (OpenAI-compatible, up to /v1) that reads unsure turns "
        "again. The turns around them are sent to it too. If it is not set, no server is asked.",
    )
    deeper_reader_model: str = Field(default="default", description="The name of the model on that server.")
    deeper_reader_key: SecretStr | None = Field(
        default=None, description="The access token of that server, if it needs one."
    )
    deeper_reader_seconds: float = Field(
        default=30.0, gt=0, description="The time limit for one turn; after it the turn stays unsure."
    )
    job_attempts: int = Field(
        default=10, ge=1, description="Attempts of a job, with growing pauses, before its recording is parked."
    )
    stalled_after_seconds: float = Field(
        default=30.0,
        gt=0,
        description="A worker without a heartbeat for this long counts as dead; another worker gets its job.",
    )
    audit_anchor_seconds: float = Field(
        default=60.0, gt=0,
        description="How often the heads of changed audit chains are anchored outside the database. Entries removed "
        "from the end of a log since its last anchor are not noticed. A shorter time is safer but writes more.",
    )  # fmt: skip
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description='Private networks that webhooks may reach as well, also without TLS: ["10.0.0.0/8"].',
    )
    webhook_attempts: int = Field(
        default=10, ge=1, description="Attempts of a webhook delivery, with growing pauses, before it is given up."
    )
    streams_redis_url: SecretStr | None = Field(
        default=None,
        description="A Redis (redis://…, rediss://…); events are also added to its streams.",
    )
    streams_length: int = Field(
        default=100_000, ge=1, description="The approximate number of events that a tenant's Redis stream keeps."
    )

    @field_validator("oidc_roles")
    @classmethod
    def _refuse_programs(cls, given: dict[str, Role]) -> dict[str, Role]:
        if "service" in given.values():
            raise ValueError("the role service is only for programs: map the claim to another role")
        return given

    def idle_seconds_of(self, role: str) -> int:
        """How long a sign-in in this role lasts without a refresh, never longer than the sign-in."""
        by_role: dict[Any, int] = {**self.idle_seconds_by_role}
        return min(by_role.get(role, self.idle_seconds), self.sign_in_seconds_of(role))

    def sign_in_seconds_of(self, role: str) -> int:
        """How long a sign-in in this role lasts at most."""
        by_role: dict[Any, int] = {**self.sign_in_seconds_by_role}
        return by_role.get(role, self.sign_in_seconds)

    @property
    def is_encrypted(self) -> bool:
        """Whether browsers reach this installation over TLS."""
        return self.origin.startswith("https:")

    @property
    def origin(self) -> str:
        """The URL of this installation for browsers, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    # Wiring: the launcher sets these for the processes that it starts. Each process gets only its own database role.
    role_database_url: SecretStr | None = Field(
        default=None, description="The connection string of this process to PostgreSQL."
    )
    serve_url: str | None = Field(default=None, description="The URL of the model endpoints (Ray Serve).")
