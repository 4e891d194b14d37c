"""Builds the Ray Serve configuration from the champions and deploys it.

The configuration is declarative: Ray imports the application by its path. What may change while replicas run (the
champions) is only in each deployment's `user_config`, so an update restarts no replica.
"""

import time
from collections.abc import Mapping
from threading import Event
from typing import Any, Final

import structlog
from ray.serve import context
from ray.serve.schema import ServeDeploySchema

from comms.kernel.settings import Settings
from models.contract.errors import WriteCareError, unavailable
from models.registry.champions import FILE_NAME, ResolvedModel, champions
from serving.placement import APPLICATION, CPU_SHARES

Champions = Mapping[str, ResolvedModel]

IMPORT_PATH: Final = "serving.application:build"

# deployment -> the registered models that it loads
MODELS_BY_DEPLOYMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "safeguarding": ("safeguarding", "sentiment", "turn_encoder"),
    "sentiment": ("sentiment", "turn_encoder"),
    "actions": ("actions", "turn_encoder"),
    "summarisation": ("summarisation",),
    "risk": ("risk",),
}

_log: Final = structlog.get_logger(__name__)


def serve_config(champions: Mapping[str, ResolvedModel], model_cpus: float) -> dict[str, Any]:
    """The configuration in the form that Serve's REST API and `serve deploy` take (`ServeDeploySchema`)."""
    described = []
    for name, share in CPU_SHARES.items():
        one: dict[str, Any] = {"name": name, "ray_actor_options": {"num_cpus": round(share * model_cpus, 4)}}
        if name in MODELS_BY_DEPLOYMENT:
            one["user_config"] = {held: champions[held].as_document() for held in MODELS_BY_DEPLOYMENT[name]}
        described.append(one)
    return {"applications": [{"name": APPLICATION, "import_path": IMPORT_PATH, "args": {}, "deployments": described}]}


def resolve_champions(settings: Settings) -> Champions:
    """The champions of this data folder. Raises `unavailable` if an artefact does not match its digest."""
    return champions(settings.data_dir)


def champions_file_version(settings: Settings) -> tuple[int, int] | None:
    """Changes whenever the champions change (inode and time of the file). None if the shipped versions are used.

    Resolving the champions checks the digest of every artefact, which is too expensive for every second.
    """
    try:
        found = (settings.data_dir / "models" / FILE_NAME).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def resolve_if_changed(settings: Settings, deployed: Champions) -> Champions | None:
    """The champions if they differ from those deployed. None if they are equal or cannot be read."""
    try:
        found = resolve_champions(settings)
    except (WriteCareError, OSError, ValueError) as error:
        _log.error("champions cannot be read; the deployed ones stay", error=type(error).__name__)
        return None
    # A changed path of the same files is no reason to load them again.
    changed = {name: (m.version, m.sha256) for name, m in found.items()} != {
        name: (m.version, m.sha256) for name, m in deployed.items()
    }
    return found if changed else None


def deploy(wanted: Champions, model_cpus: float) -> None:
    """Sends the whole configuration to Serve's controller, as its REST API does. Returns at once.

    That API is part of Ray's dashboard, which would open one more port and use 120 MB.
    """
    schema = ServeDeploySchema.model_validate(serve_config(wanted, model_cpus))
    context._get_global_client().deploy_apps(schema)
    _log.info("deployed", models={name: model.version for name, model in wanted.items()})


def wait_until_running(deadline: float, stopping: Event) -> None:
    """Returns when every deployment answers, or `stopping` is set. Raises `unavailable` if one cannot start."""
    client = context._get_global_client()
    while not stopping.wait(0.1):
        status = client.get_serve_details()["applications"].get(APPLICATION, {})
        if status.get("status") == "RUNNING":
            return
        if status.get("status") in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > deadline:
            told = {name: one["message"][-600:] for name, one in status.get("deployments", {}).items()}
            _log.error("models did not start", status=status.get("status"), message=status.get("message"), told=told)
            raise unavailable("models-down", "The models did not start; the log of the models process says why.")
