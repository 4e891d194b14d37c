"""From champions to running replicas: what the models' process tells Ray Serve.

Deployed declaratively: Ray imports the application by its path, and what may change under running replicas (the
champions) stands in each deployment's `user_config` alone. Changing nothing else, an update restarts no replica.
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

# deployment -> the registered models that it holds
MODELS_BY_DEPLOYMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "safeguarding": ("safeguarding", "sentiment", "turn_encoder"),
    "sentiment": ("sentiment", "turn_encoder"),
    "actions": ("actions", "turn_encoder"),
    "summarisation": ("summarisation",),
    "risk": ("risk",),
}

_log: Final = structlog.get_logger(__name__)


def serve_config(champions: Mapping[str, ResolvedModel], model_cpus: float) -> dict[str, Any]:
    """What Ray Serve is told, as its REST API and `serve deploy` take it (`ServeDeploySchema`)."""
    described = []
    for name, share in CPU_SHARES.items():
        one: dict[str, Any] = {"name": name, "ray_actor_options": {"num_cpus": round(share * model_cpus, 4)}}
        if name in MODELS_BY_DEPLOYMENT:
            one["user_config"] = {held: champions[held].as_document() for held in MODELS_BY_DEPLOYMENT[name]}
        described.append(one)
    return {"applications": [{"name": APPLICATION, "import_path": IMPORT_PATH, "args": {}, "deployments": described}]}


def resolve_champions(settings: Settings) -> Champions:
    """The champions of this data folder; raises `unavailable` where an artefact is not what it was."""
    return champions(settings.data_dir)


def champions_file_version(settings: Settings) -> tuple[int, int] | None:
    """What changes whenever the champions do (inode and time of the file); None where the shipped versions serve.

    Reading the champions checks the digest of every artefact, which is too dear to do each second.
    """
    try:
        found = (settings.data_dir / "models" / FILE_NAME).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def resolve_if_changed(settings: Settings, deployed: Champions) -> Champions | None:
    """The champions where they are others than those deployed; else, or where they cannot be read, None."""
    try:
        found = resolve_champions(settings)
    except (WriteCareError, OSError, ValueError) as error:
        _log.error("champions cannot be read; the present ones go on", error=type(error).__name__)
        return None
    # Where the same files lie is no reason to load them again.
    changed = {name: (m.version, m.sha256) for name, m in found.items()} != {
        name: (m.version, m.sha256) for name, m in deployed.items()
    }
    return found if changed else None


def deploy(wanted: Champions, model_cpus: float) -> None:
    """Tells Serve's controller the whole configuration, as its REST API would; returns at once.

    (That API lives in Ray's dashboard, which would be one more open door and 120 MB.)
    """
    schema = ServeDeploySchema.model_validate(serve_config(wanted, model_cpus))
    context._get_global_client().deploy_apps(schema)
    _log.info("deployed", models={name: model.version for name, model in wanted.items()})


def wait_until_running(deadline: float, stopping: Event) -> None:
    """Returns when every deployment answers (or `stopping` is set); raises `unavailable` where one cannot."""
    client = context._get_global_client()
    while not stopping.wait(0.1):
        status = client.get_serve_details()["applications"].get(APPLICATION, {})
        if status.get("status") == "RUNNING":
            return
        if status.get("status") in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > deadline:
            told = {name: one["message"][-600:] for name, one in status.get("deployments", {}).items()}
            _log.error("models did not come up", status=status.get("status"), message=status.get("message"), told=told)
            raise unavailable("models-down", "The models did not come up; the log of the models' process says why.")
