"""The environment variables of each process of an instance.

The launcher passes them to its child processes; `instance/systemd_setup.py` writes them to files for systemd.
"""

from pathlib import Path
from typing import Final

from comms.kernel.metrics import SHARED
from comms.kernel.settings import Settings
from instance.provisioning import Databases
from models.telemetry import SILENCED

# The role with which each process logs in to PostgreSQL.
ROLE_OF: Final[dict[str, str]] = {
    "api": "app", "models": "app", "relay": "relay", "sender": "sender", "sealer": "sealer", "keeper": "keeper",
    "worker": "worker", "registration": "mlflow",
}  # fmt: skip
_WITH_RAY: Final = frozenset({"api", "models", "worker"})
_ROOT: Final = Path(__file__).resolve().parents[1]


def process_environment(
    process: str, settings: Settings, databases: Databases, *, serve_url: str, ray_token: str, metrics_dir: Path
) -> dict[str, str]:
    """The variables of `process` (a key of `ROLE_OF`), beside the operator's own settings. They hold a password."""
    url: str = getattr(databases, ROLE_OF[process])
    environment = {
        "PYTHONPATH": str(_ROOT),
        "WRITECARE_DATA_DIR": str(settings.data_dir.resolve()),
        "WRITECARE_HOST": settings.host,
        "WRITECARE_PORT": str(settings.port),
        "WRITECARE_ROLE_DATABASE_URL": url,
        "WRITECARE_SERVE_URL": serve_url,
        # One thread for linear algebra by default (replicas set more): otherwise each of many processes keeps a
        # thread pool as large as the machine.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "TOKENIZERS_PARALLELISM": "false",
        **SILENCED,
    }
    if process in _WITH_RAY:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ray_token}
        # 0 keeps Ray's node and its servers on loopback; else Ray replaces even 127.0.0.1 by the machine's address.
        environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if process == "api" and settings.api_processes > 1:
        environment |= {SHARED: str(metrics_dir)}
    return environment
