"""The knobs, read once at each process's entry point and passed inward. Nothing else reads the environment."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from comms.kernel.access.roles import PRIVILEGED, Role

ProxyHeader = Literal["x-forwarded-for", "forwarded"]
_AT_HOME: Final[tuple[Role, ...]] = ("external", "resident")  # with a device of their own


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
        description="Where encrypted recordings and attachments lie (s3://…, az://…, file:///…); without it, in the "
        "data folder.",
    )
    max_recording_seconds: float = Field(
        default=3 * 3600.0, gt=0, description="Longer recordings are refused before they are decoded."
    )
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="Larger uploads are refused.")
    max_attachment_bytes: int = Field(
        default=25 * 1024**2, gt=0, description="Larger attachments of messages are refused."
    )
    recording_decoders: int = Field(
        default=3, ge=2, description="How many recordings an API process opens at a time; one tenant has one fewer."
    )
    attachment_decoders: int = Field(
        default=3, ge=2, description="How many attachments an API process opens at a time; one tenant has one fewer."
    )
    decoder_wait_seconds: float = Field(
        default=30.0, gt=0, description="Who waits longer for such a place is answered 503 and told when to try again."
    )
    allow_unconfined_decoding: bool = Field(
        default=False,
        description="Open files from outside although this kernel refuses to confine the child that opens them.",
    )
    clamd_url: str | None = Field(
        default=None,
        description="A ClamAV daemon that looks at attachments (tcp://host:3310, unix:/run/clamav/clamd.ctl). While it "
        "is down no attachment is taken; without it, nobody looks for malware.",
    )
    requests_a_minute_user: int = Field(default=12_000, gt=0, description="Requests a minute of one person.")
    requests_a_minute_tenant: int = Field(
        default=120_000, gt=0, description="Requests a minute of one tenant's people."
    )
    api_processes: int = Field(
        default=1, ge=1, le=64,
        description="How many API processes answer at the port; each takes a processor when it is busy.",
    )  # fmt: skip
    limits_redis_url: SecretStr | None = Field(
        default=None,
        description="A Redis (redis://…) in which several API processes count requests together; without it, each "
        "counts its own.",
    )
    token_lifetime_seconds: int = Field(default=12 * 3600, gt=0, description="How long a signed token is good for.")
    access_token_seconds: int = Field(
        default=900, gt=0, description="How long the token of a person's sign-in is good for before it is refreshed."
    )
    idle_seconds: int = Field(
        default=3600, gt=0, description="A sign-in that nobody refreshes for this long is over, for roles not below."
    )
    sign_in_seconds: int = Field(
        default=12 * 3600, gt=0, description="The longest that a sign-in lasts, for roles not below: a shift."
    )
    idle_seconds_by_role: dict[Role, int] = Field(
        default_factory=lambda: dict.fromkeys(sorted(PRIVILEGED), 1800) | dict.fromkeys(_AT_HOME, 4 * 3600),
        description="The same for single roles (a JSON object): shorter for who reads alerts or manages accounts.",
    )
    sign_in_seconds_by_role: dict[Role, int] = Field(
        default_factory=lambda: dict.fromkeys(_AT_HOME, 24 * 3600),
        description="The longest that a sign-in lasts, for roles of their own (a JSON object).",
    )
    second_factor_roles: frozenset[Role] = Field(
        default=PRIVILEGED,
        description="Roles whose sign-ins do nothing before a second factor is set up (a JSON list).",
    )
    passwords_beside_single_sign_on: bool = Field(
        default=False, description="Whether somebody who signs on with the provider may have a password here too."
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description='Networks of the proxies whose word on a caller\'s address is taken: ["10.0.0.0/8"]. Without it, '
        "the address that the connection comes from counts.",
    )
    proxy_header: ProxyHeader = Field(
        default="x-forwarded-for",
        description="The header that those proxies write: x-forwarded-for or forwarded. The other one is not read.",
    )
    requests_a_minute_address: int = Field(
        default=600, gt=0, description="Requests a minute without a token from one address (of IPv6, one /64)."
    )
    smtp_host: str | None = Field(
        default=None, description="The server that sends e-mail to people; without it, codes are printed."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="That server's port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the way there is encrypted; none is for a server on this machine."
    )
    smtp_user: str | None = Field(default=None, description="The name to sign in with there, if it wants one.")
    smtp_password: SecretStr | None = Field(default=None, description="And the password.")
    mail_from: str = Field(
        default="writecareconnect@localhost", description="The address that e-mail to people comes from."
    )
    operator_tenant: str = Field(
        default="operator", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The slug of the tenant whose platform administrators see and make all tenants; those of other "
        "tenants see their own alone.",
    )  # fmt: skip
    public_url: str | None = Field(
        default=None, description="Where browsers reach this, e.g. https://connect.example; without it, host and port."
    )
    allowed_hosts: frozenset[str] = Field(
        default=frozenset(),
        description="Host names under which this is reached (a JSON list); other names are refused with 421. Without "
        "it, the public URL's; without that, every name. This machine's own are always taken.",
    )
    oidc_issuer: str | None = Field(
        default=None, description="Provider of single sign-on (OpenID Connect), e.g. WriteCareNotes: its issuer URL."
    )
    oidc_client_id: str | None = Field(default=None, description="What the provider calls this installation.")
    oidc_client_secret: SecretStr | None = Field(default=None, description="The secret agreed with it, if any.")
    oidc_scopes: str = Field(
        default="openid profile email",
        description="What is asked of the provider; a verified e-mail address says whose second account it is.",
    )
    oidc_tenant_claim: str = Field(default="tenant", description="Its claim that holds the tenant's slug.")
    oidc_user_claim: str = Field(
        default="preferred_username",
        description="Its claim that becomes the person's slug (- for what does not fit).",
    )
    oidc_name_claim: str = Field(default="name", description="Its claim that holds the person's name.")
    oidc_role_claim: str = Field(default="role", description="Its claim that holds a role, or a list with one.")
    oidc_roles: dict[str, Role] = Field(
        default_factory=dict,
        description="The role here for each value of that claim (JSON); other values let nobody in.",
    )
    oidc_second_factor_acr: tuple[str, ...] = Field(
        default=(),
        description="Values of its claim acr that stand for two factors (a JSON list); it is asked for them.",
    )
    oidc_provider_checks_second_factor: bool = Field(
        default=False,
        description="Whether the provider always asks for two factors, though its tokens (amr, acr) do not say so.",
    )
    operations_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="What supervisors and Prometheus send as `Authorization: Bearer …` to read /metrics and "
        "/health/detailed; without it, the one in the data folder's keys/operations.token, made at the first start.",
    )
    issuer: str = Field(default="writecareconnect", description="The `iss` of tokens made and accepted here.")
    model_cpus: float = Field(default=2.0, gt=0, description="Processors that the model deployments share.")
    asr_model: str | None = Field(
        default=None, description="A larger Whisper (folder or hub name, e.g. large-v3-turbo) instead of the packaged."
    )
    asr_readings: int = Field(
        default=3, ge=1, le=3, description="How often a call is read before the readings vote: 1 is fastest, 3 best."
    )
    asr_language: str | None = Field(
        default=None,
        pattern="^[a-z]{2,3}$",
        description="The language of all recordings (ISO 639-1, e.g. en, cy); without it, it is detected.",
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
        default=60.0, gt=0,
        description="How often the heads of moved audit chains are anchored outside the database. Acts that were cut "
        "off the end of a log since its last anchor are not missed: less is safer, and writes storage more often.",
    )  # fmt: skip
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description='Networks beside the public internet that webhooks may reach, also without TLS: ["10.0.0.0/8"].',
    )
    webhook_attempts: int = Field(
        default=10, ge=1, description="Tries of a webhook's delivery, with growing pauses, before it is given up."
    )
    streams_redis_url: SecretStr | None = Field(
        default=None,
        description="A Redis to whose streams events are added too (redis://…, rediss://…).",
    )
    streams_length: int = Field(
        default=100_000, ge=1, description="About how many events a tenant's Redis stream keeps."
    )

    @field_validator("oidc_roles")
    @classmethod
    def _refuse_programs(cls, given: dict[str, Role]) -> dict[str, Role]:
        if "service" in given.values():
            raise ValueError("the role service is a program's: single sign-on gives it to nobody")
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
        """Whether browsers reach this over TLS."""
        return self.origin.startswith("https:")

    @property
    def origin(self) -> str:
        """Where browsers reach this, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    # Wiring: the launcher sets these for the processes it starts; each is given its own role's door alone.
    role_database_url: SecretStr | None = Field(default=None, description="Where this process logs in to PostgreSQL.")
    serve_url: str | None = Field(default=None, description="Where the model endpoints listen (Ray Serve).")
