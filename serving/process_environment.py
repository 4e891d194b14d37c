"""What each process of an instance reads from its environment, however it is started.

The launcher passes it to its children; `serving/systemd_setup.py` writes it to files for systemd.
"""

from pathlib import Path
from typing import Final

from comms.metrics import SHARED
from comms.provision import Databases
from comms.settings import Settings
from models.telemetry import SILENCED

# The role with which each process logs in to PostgreSQL.
ROLE_OF: Final[dict[str, str]] = {
    "api": "app", "models": "app", "relay": "relay", "sender": "sender", "sealer": "sealer", "keeper": "keeper",
    "worker": "worker", "registration": "mlflow",
}  # fmt: skip
_WITH_RAY: Final = frozenset({"api", "models", "worker"})
_ROOT: Final = Path(__file__).resolve().parent.parent


def process_environment(
    process: str, settings: Settings, databases: Databases, *, serve_url: str, ray_token: str, metrics_dir: Path
) -> dict[str, str]:
    """What `process` (a key of `ROLE_OF`) needs beside the operator's own settings. Holds a password."""
    url: str = getattr(databases, ROLE_OF[process])
    environment = {
        "PYTHONPATH": str(_ROOT),
        "WRITECARE_DATA_DIR": str(settings.data_dir.resolve()),
        "WRITECARE_HOST": settings.host,
        "WRITECARE_PORT": str(settings.port),
        "WRITECARE_ROLE_DATABASE_URL": url,
        "WRITECARE_SERVE_URL": serve_url,
        # One thread for linear algebra where nobody asks for more (replicas do): else each process of many
        # keeps a pool as large as the machine.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "TOKENIZERS_PARALLELISM": "false",
        **SILENCED,
    }
    if process in _WITH_RAY:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": ray_token}
        # 0 keeps Ray's node, and so its servers, on loopback: else even 127.0.0.1 is made the machine's own address.
        environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if process == "api" and settings.api_processes > 1:
        environment |= {SHARED: str(metrics_dir)}
    return environment
