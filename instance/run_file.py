"""Locks a data folder for one instance, and stores how to reach that instance (`DIR/run.json`)."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres
from models.contract.errors import conflict, unavailable
from models.contract.records import Record

RUN_FILE: Final = "run.json"
_LOCK_FILE: Final = "run.lock"
_LOCK_TIMEOUT_SECONDS: Final = 0.5  # a command that only checks for a running instance holds the lock for less time


class InstanceInfo(Record):
    """How to reach a running instance. Read by `token`, `database-url` and other programs."""

    pid: int
    port: int
    address: str
    serve_port: int
    serve_url: str
    ray_address: str | None  # None until the models are ready
    postgres_socket_dir: str | None


@contextmanager
def lock_data_dir(data_dir: Path, timeout_seconds: float = _LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Locks the data folder until the block ends. Raises `conflict` (`data-in-use`) if another process holds it.

    The kernel releases the lock when the process ends for any reason.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _open_lock(data_dir)
    try:
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise conflict(
                    "data-in-use",
                    f"Another instance runs in {data_dir}: stop it, or name another folder with --data.",
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def is_locked(data_dir: Path) -> bool:
    """Whether an instance holds the lock of the data folder now."""
    if not (data_dir / _LOCK_FILE).exists():
        return False
    lock = _open_lock(data_dir)
    try:
        # shared: two checks at the same time do not see each other as an instance
        return not _try_lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _open_lock(data_dir: Path) -> int:
    return os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(lock: int, lock_mode: int) -> bool:
    try:
        fcntl.flock(lock, lock_mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_instance_info(data_dir: Path, running: InstanceInfo) -> None:
    """Writes `run.json` atomically, readable only by this user."""
    temporary_file = data_dir / f".{RUN_FILE}.new"
    temporary_file.touch(mode=0o600)
    temporary_file.write_text(running.model_dump_json(indent=2) + "\n")
    temporary_file.rename(data_dir / RUN_FILE)


def delete_instance_info(data_dir: Path) -> None:
    """Deletes `run.json` when the instance ends."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def read_instance_info(data_dir: Path) -> InstanceInfo | None:
    """The running instance of this data folder. None if none runs, even if a killed one left its file."""
    try:
        found = InstanceInfo.model_validate_json((data_dir / RUN_FILE).read_text())
    except (OSError, ValidationError):
        return None
    return found if is_locked(data_dir) else None


def administrator_url(settings: Settings, running: InstanceInfo) -> str:
    """The administrator's connection string of a running instance. It bypasses row-level security."""
    if running.postgres_socket_dir is None:
        if settings.database_url is None:
            raise unavailable("database-unnamed", "The instance runs on a database that DATABASE_URL names: set it.")
        return settings.database_url.get_secret_value()
    return EmbeddedPostgres(settings.data_dir).url_at(Path(running.postgres_socket_dir))
