"""Runs the whole system on one machine. Used by the commands `up` and `demo`.

    with running_instance(settings, tell) as instance: …

It starts PostgreSQL, then the processes that log in to it: sealer, models process (Ray), API, relay, sender, keeper,
worker. Each process gets only the database URL of its own role, in its environment. When the block ends, or this
process ends for any reason, all of them end.
"""

import http.client
import json
import os
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from comms.kernel.access.tokens import Issuer
from comms.kernel.settings import Settings
from instance import postgres_process
from instance.memory_usage import PeakMemory
from instance.model_registration import already_registered
from instance.postgres_process import PostgresProcess
from instance.process_environment import process_environment
from instance.provisioning import Databases
from instance.run_file import InstanceInfo, delete_instance_info, lock_data_dir, write_instance_info
from instance.short_paths import short_dir
from instance.supervisor import ChildProcess, OneShotProcess, SupervisedProcess, Supervisor
from models.contract.errors import conflict

_READY_SECONDS: Final = 600.0
_PROBE_SECONDS: Final = 1.0

ReportProgress = Callable[[str], None]


class Instance:
    """A running instance. `running_instance` creates it."""

    def __init__(self, settings: Settings, report_progress: ReportProgress, scratch: Path) -> None:
        self.settings = settings
        self.address = f"http://{'127.0.0.1' if settings.host in ('0.0.0.0', '::') else settings.host}:{settings.port}"  # noqa: S104
        self.ready_seconds = 0.0
        self._serve_port = free_port()
        self._scratch = scratch
        self._metrics_dir = scratch / "counts"  # metrics of all API processes together
        self._metrics_dir.mkdir(parents=True)
        self._ray_token = secrets.token_hex(32)
        self._postgres = PostgresProcess(settings)
        self._memory = PeakMemory(os.getpid())
        self._supervisor = Supervisor(self._children(), report_progress, self._on_ready)

    @property
    def databases(self) -> Databases:
        """The connection string of each role."""
        return self._postgres.databases

    @property
    def serve_url(self) -> str:
        """The URL of the model endpoints."""
        return f"http://127.0.0.1:{self._serve_port}"

    def peak_memory_bytes(self) -> int:
        """The peak memory of this process and all its descendants so far."""
        return self._memory.sample()

    def start(self) -> None:
        """Returns when every process is ready. Raises `unavailable` if one does not start."""
        started_at = time.monotonic()
        self._memory.start()
        self._supervisor.start()
        self._supervisor.wait_ready(_READY_SECONDS)
        self.ready_seconds = time.monotonic() - started_at

    def wait(self, stopping: threading.Event) -> None:
        """Returns when `stopping` is set. Raises `unavailable` if the supervisor has ended."""
        while not stopping.wait(1.0):
            self._supervisor.require_running()

    def stop(self) -> None:
        """Stops all children, PostgreSQL last."""
        self._supervisor.stop()
        self._memory.stop()
        delete_instance_info(self.settings.data_dir)

    def _children(self) -> list[SupervisedProcess]:
        # The sealer stops after all processes that write audit entries, so that it seals their last entries, too.
        sealer, after = (postgres_process.NAME,), (postgres_process.NAME, "sealer")
        children: list[SupervisedProcess] = [
            self._postgres,
            self._process(
                "sealer", _module_command("comms.governance.audit.sealer"), self._sealer_environment, _at_once,
                after=sealer,
            ),
            self._process(
                "models", self._models_command, self._app_environment, self._models_ready.exists, after=after
            ),
            *(
                self._process(
                    name, _module_command("comms.app.server"), self._api_environment, lambda: _is_healthy(self.address),
                    after=after,
                )
                for name in api_process_names(self.settings)
            ),
            self._process(
                "relay", _module_command("comms.outbox.relay"), self._relay_environment, _at_once, after=after
            ),
            self._process(
                "sender", _module_command("comms.delivery.sender"), self._sender_environment, _at_once, after=after
            ),
            self._process(
                "keeper", _module_command("comms.governance.retention.keeper"), self._keeper_environment, _at_once,
                after=after,
            ),
            self._process(
                "worker", self._worker_command, self._worker_environment, self._worker_ready.exists,
                after=after, restarts_with=("models",),
            ),
        ]  # fmt: skip
        if not already_registered(self.settings.data_dir, self._database_name()):
            command = [*_module_command("instance.model_registration")(), self._database_name()]
            log = self.settings.data_dir / "logs" / "registration.log"
            children.insert(
                1,
                OneShotProcess(
                    "registration", lambda: command, self._registry_environment, log, lambda: True, after=after
                ),
            )
        return children

    def _process(
        self, name: str, command: Callable[[], list[str]], environment: Callable[[], Mapping[str, str]],
        is_ready: Callable[[], bool], *, after: tuple[str, ...], restarts_with: tuple[str, ...] = (),
    ) -> ChildProcess:  # fmt: skip
        log = self.settings.data_dir / "logs" / f"{name}.log"
        return ChildProcess(name, command, environment, log, is_ready, after=after, restarts_with=restarts_with)

    # --- command and environment of each process ---------------------------------------------------------------

    @property
    def _models_ready(self) -> Path:
        return self.settings.data_dir / "models.ready.json"

    @property
    def _worker_ready(self) -> Path:
        return self.settings.data_dir / "worker.ready"

    def _models_command(self) -> list[str]:
        self._models_ready.unlink(missing_ok=True)
        scratch = self._scratch / "models"
        shutil.rmtree(scratch, ignore_errors=True)
        return [
            *_module_command("serving.ray_process")(), "--port", str(self._serve_port),
            "--ready", str(self._models_ready), "--scratch", str(scratch),
        ]  # fmt: skip

    def _worker_command(self) -> list[str]:
        self._worker_ready.unlink(missing_ok=True)
        return [
            *_module_command("serving.worker")(),
            "--models",
            str(self._models_ready),
            "--ready",
            str(self._worker_ready),
        ]

    def _app_environment(self) -> dict[str, str]:
        return self._environment("models")

    def _api_environment(self) -> dict[str, str]:
        return self._environment("api")

    def _relay_environment(self) -> dict[str, str]:
        return self._environment("relay")

    def _sender_environment(self) -> dict[str, str]:
        return self._environment("sender")

    def _keeper_environment(self) -> dict[str, str]:
        return self._environment("keeper")

    def _sealer_environment(self) -> dict[str, str]:
        return self._environment("sealer")

    def _worker_environment(self) -> dict[str, str]:
        return self._environment("worker")

    def _registry_environment(self) -> dict[str, str]:
        return self._environment("registration")

    def _environment(self, process: str) -> dict[str, str]:
        """This process's environment without `DATABASE_URL`, so that children cannot log in as administrator."""
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        return environment | process_environment(
            process, self.settings, self.databases,
            serve_url=self.serve_url, ray_token=self._ray_token, metrics_dir=self._metrics_dir,
        )  # fmt: skip

    # --- files through which other processes find it -----------------------------------------------------------

    def _on_ready(self, child: SupervisedProcess) -> None:
        if child.name in ("models", postgres_process.NAME):
            self._write_instance_info()

    def _write_instance_info(self) -> None:
        socket_dir = self._postgres.socket_dir
        write_instance_info(
            self.settings.data_dir,
            InstanceInfo(
                pid=os.getpid(), port=self.settings.port, address=self.address, serve_port=self._serve_port,
                serve_url=self.serve_url,
                ray_address=self._models_state()["ray_address"] if self._models_ready.exists() else None,
                postgres_socket_dir=None if socket_dir is None else str(socket_dir),
            ),
        )  # fmt: skip

    def _models_state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._models_ready.read_text())
        return state

    def _database_name(self) -> str:
        if self.settings.database_url is None:
            return "embedded"
        parts = urlsplit(self.settings.database_url.get_secret_value())
        return f"{parts.hostname}:{parts.port}{parts.path}"


@contextmanager
def running_instance(settings: Settings, report_progress: ReportProgress = lambda _: None) -> Iterator[Instance]:
    """Starts the whole system and stops it when the block ends. Calls `report_progress` at each step.

    Raises `conflict` (`data-in-use`, `port-in-use`), and `unavailable` if a process does not start.
    """
    with lock_data_dir(settings.data_dir):
        refuse_taken_port(settings.host, settings.port)
        # creates the signing keys before a process verifies tokens
        Issuer.open(settings.data_dir / "keys", settings.issuer)
        scratch = short_dir(settings.data_dir, "ray")
        instance = Instance(settings, report_progress, scratch)
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()
            shutil.rmtree(scratch, ignore_errors=True)


def api_process_names(settings: Settings) -> list[str]:
    """The names of the API processes: `api`, then `api-2` and so on if several listen on the port."""
    return ["api", *(f"api-{number}" for number in range(2, settings.api_processes + 1))]


def free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refuse_taken_port(host: str, port: int) -> None:
    """Raises `conflict` (`port-in-use`) if another process listens on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise conflict(
                "port-in-use", f"Port {port} of {host} cannot be used ({reason}): name another with --port."
            ) from None


def _module_command(name: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-P", "-m", name]


def _at_once() -> bool:
    return True  # the process has no readiness signal


def _is_healthy(address: str) -> bool:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()
