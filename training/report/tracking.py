"""Stores the report as an MLflow run: its figures as metrics, its files as artefacts. The last step of the report.

If the whole system runs in the data folder, the run is stored in its PostgreSQL beside the registry; otherwise in a
SQLite file of the data folder. Nothing is sent to another machine.
"""

import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from instance.embedded_postgres import PORT, EmbeddedPostgres
from instance.provisioning import connections
from models.contract.errors import invalid

EXPERIMENT: Final = "evaluation"
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def default_store(data_dir: Path) -> str:
    """The store for runs of this data folder: the running system's PostgreSQL, else a SQLite file."""
    directory = _postgres_of(data_dir)
    if directory is not None:
        return connections(EmbeddedPostgres(data_dir).url_at(directory), data_dir / "keys").mlflow
    folder = (data_dir / "mlflow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'runs.db'}"


def require_local_store(uri: str) -> str:
    """Returns `uri`. Raises `invalid` (`store-elsewhere`) if it names a server of another machine."""
    parts = urlsplit(uri)
    if parts.scheme.startswith("http") and parts.hostname not in _LOCAL_HOSTS:
        raise invalid(
            "store-elsewhere", "Runs are stored only on this machine: name a file, a database or a loopback address."
        )
    return uri


def log_run(uri: str, data_dir: Path, name: str, figures: Mapping[str, Any], directory: Path) -> str:
    """Stores figures and files of `directory` as a run of the experiment `evaluation`. Returns the run's id."""
    from models.registry.mlflow_registry import mlflow_client  # noqa: PLC0415 - MLflow takes seconds to import

    client = mlflow_client(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        files = (data_dir / "mlflow" / "artefacts").resolve()
        files.mkdir(parents=True, exist_ok=True)
        identifier = client.create_experiment(EXPERIMENT, artifact_location=files.as_uri())
    else:
        identifier = experiment.experiment_id
    tags = {name: str(figures[name]) for name in ("version", "dataset_sha256", "learnt") if name in figures}
    run = client.create_run(identifier, run_name=name, tags={**tags, "command": str(figures["command"])})
    for metric, value in sorted(metrics(figures).items()):
        client.log_metric(run.info.run_id, metric, value)
    client.log_artifacts(run.info.run_id, str(directory))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures with an interval, by dotted names that MLflow takes: the value, `.low` and `.high`."""
    found = {}
    for path, figure in _figures(figures, ()):
        name = re.sub(r"[^\w./ -]", "_", ".".join(path))
        for part, ending in (("value", ""), ("low", ".low"), ("high", ".high")):
            if figure[part] is not None:
                found[name + ending] = float(figure[part])
    return found


def _figures(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}:
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _figures(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            named = next((inner[key] for key in _NAMED_BY if isinstance(inner, Mapping) and key in inner), None)
            if named is not None:
                yield from _figures(inner, (*path, str(named)))


_NAMED_BY: Final = ("category", "figure", "name", "tag", "rate", "change", "attribute")


def _postgres_of(data_dir: Path) -> Path | None:
    """The socket folder of the embedded server in `run.json`, if that server answers now."""
    try:
        named = json.loads((data_dir / "run.json").read_text(encoding="utf-8"))["postgres_socket_dir"]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.connect(f"{named}/.s.PGSQL.{PORT}")
    except (OSError, ValueError, KeyError):
        return None
    return Path(named)
