"""Prepares an installation whose processes systemd starts: `python -m instance.systemd_setup DIRECTORY`.

Run by `writecare-setup.service` before all others. Brings the database that DATABASE_URL names to this version, makes
the keys, registers the shipped models, and writes DIRECTORY/<process>.env for the `EnvironmentFile=` of each unit. Only
this process sees the administrator's connection string.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from comms.kernel.access.tokens import Issuer
from comms.kernel.json_logging import write_json_logs
from comms.kernel.settings import Settings
from instance.model_registration import already_registered
from instance.process_environment import ROLE_OF, process_environment
from instance.provisioning import provision
from models.contract.errors import WriteCareError, invalid

_DEFAULT_SERVE_URL: Final = "http://127.0.0.1:8090"
_ESCAPED: Final = re.compile(r'[\\"$`]')  # within double quotes, as systemd.exec(5) says


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when everything is ready; 1 with a line that says what is not."""
    parser = argparse.ArgumentParser(prog="instance.systemd_setup")
    parser.add_argument("directory", type=Path, help="where the environment of each process is written")
    options = parser.parse_args(argv)
    write_json_logs()
    try:
        set_up(Settings(), options.directory)
    except WriteCareError as error:
        structlog.get_logger(__name__).error("the installation is not ready", reason=str(error))
        return 1
    return 0


def set_up(settings: Settings, directory: Path) -> None:
    """Prepares database, keys and model registry, then writes the environment of each process."""
    if settings.database_url is None:
        raise invalid("database-unnamed", "DATABASE_URL names no database: set it in administrator.env.")
    administrator_url = settings.database_url.get_secret_value()
    keys = settings.data_dir.resolve() / "keys"
    databases = provision(administrator_url, keys, operator_tenant=settings.operator_tenant)
    Issuer.open(keys, settings.issuer)  # before a process verifies tokens
    metrics_dir = directory / "metrics"
    for made in (directory, metrics_dir):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    serve_url = settings.serve_url or _DEFAULT_SERVE_URL
    token = _ray_token(directory)
    environments = {
        process: process_environment(
            process, settings, databases, serve_url=serve_url, ray_token=token, metrics_dir=metrics_dir
        )
        for process in ROLE_OF
    }
    parts = urlsplit(administrator_url)
    database = f"{parts.hostname}:{parts.port}{parts.path}"
    if not already_registered(settings.data_dir, database):
        _register(environments["registration"], database)
    environments["models"] |= {"WRITECARE_MODELS_PORT": str(urlsplit(serve_url).port)}
    for process, environment in environments.items():
        if process != "registration":
            _write(directory / f"{process}.env", environment)


def in_quotes(value: str) -> str:
    """The value as an environment file of systemd holds it."""
    return '"' + _ESCAPED.sub(lambda found: "\\" + found[0], value) + '"'


def _ray_token(directory: Path) -> str:
    """The same for all processes, also when this is run again while they run."""
    file = directory / "ray.token"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()


def _register(environment: dict[str, str], database: str) -> None:
    own = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-P", "-m", "instance.model_registration", database]
    if subprocess.run(command, env={**own, **environment}, check=False).returncode != 0:
        raise invalid("models-unregistered", "The shipped models could not be registered; the lines above say why.")


def _write(file: Path, environment: Mapping[str, str]) -> None:
    fresh = file.with_name(f".{file.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={in_quotes(value)}\n" for name, value in sorted(environment.items())))
    fresh.rename(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
