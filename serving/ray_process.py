"""The models' process: a Ray of our own on this machine, and the deployments on it.

    python -m serving.ray_process --port PORT --ready FILE --scratch DIR

Everything of Ray (its own servers, the nursery, every replica) is a child of this process or dies with one that is,
however it ends. The launcher starts it, waits for FILE, and passes the settings in the environment. It is the one
place that deploys: when `champions.json` names another version it changes `user_config`, and replicas follow.

HTTP goes through Serve's own proxy. Its HAProxy mode answers in a fraction of the time per request, but opens
statistics and metrics pages on every interface of the machine, keeps its files in one place for all instances, and
adds two processes; beside a model call of tens of milliseconds the proxy's few are not worth that here.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil
import structlog

from comms.kernel.json_logging import write_json_logs
from comms.kernel.settings import Settings
from instance import fork_server
from instance.parent_death import dying_with_parent

_OBJECT_STORE_BYTES: Final = 800 << 20  # three hours of sound are 690 MB; pages are taken only when they are filled
_LOOPBACK: Final = "127.0.0.1"
_DEPLOY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 1.0


def main() -> int:
    """Until SIGTERM or SIGINT; exit code 1 where the models did not come up."""
    options = _options()
    write_json_logs()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = Settings()
    listener, address = _bind_fork_server(options.scratch)
    _prepare_environment(options.scratch, address)
    fork_server.import_all(fork_server.PRELOADED_FOR_RAY)
    _start_fork_server(listener)
    return _serve(settings, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving.ray_process")
    parser.add_argument("--port", type=int, required=True, help="where the model endpoints listen, on loopback")
    parser.add_argument("--ready", type=Path, required=True, help="written when all models answer")
    parser.add_argument("--scratch", type=Path, required=True, help="Ray's own files; a short path")
    return parser.parse_args()


def _bind_fork_server(scratch: Path) -> tuple[socket.socket, Path]:
    """The nursery's address, listening before anyone asks: whoever comes early waits."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = scratch / "nursery"
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(128)
    return listener, address


def _prepare_environment(scratch: Path, fork_server_address: Path) -> None:
    # Ray asks three clouds' metadata addresses where it runs, for a report that is switched off, unless it finds
    # this file in its home. tests/journeys shows that nothing is asked any more.
    (scratch / "ray_bootstrap_config.yaml").write_text("{provider: {type: local}, min_workers: 0}\n")
    os.environ.update(
        HOME=str(scratch),
        WRITECARE_NURSERY=str(fork_server_address),
        RAY_worker_niceness="0",
        # The first workers wait for the nursery's imports, which take minutes on a machine that is busy with other
        # work. After Ray's default of 60 s the raylet gives them up and never starts others: `ray.init` then hangs.
        RAY_worker_register_timeout_seconds="600",
        # Sound that does not fit in memory must wait: written to disk it would be plain (docs/decisions/0009).
        RAY_automatic_object_spilling_enabled="0",
        RAY_SERVE_LOG_TO_STDERR="0",
        # At rest each of ten processes would else wake ten times a second, for figures that nobody reads here.
        RAY_SERVE_METRICS_EXPORT_INTERVAL_MS="5000",
        RAY_SERVE_CONTROL_LOOP_INTERVAL_S="0.5",
    )


def _start_fork_server(listener: socket.socket) -> None:
    """Forks the nursery off, which goes on importing while this process brings Ray up."""
    die_with_parent = dying_with_parent(signal.SIGKILL)
    if os.fork() == 0:
        die_with_parent()
        _run_fork_server(listener)
    listener.close()


def _run_fork_server(listener: socket.socket) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fork_server.import_all(fork_server.PRELOADED_FOR_REPLICAS)
        fork_server.fork_workers(listener)
    except Exception as error:
        structlog.get_logger(__name__).error("no nursery; Ray starts its workers itself", error=repr(error))
    finally:
        os._exit(1)  # never back into the parent's code


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    import ray  # noqa: PLC0415 - after the nursery has parted, which must not know Ray
    from ray import serve  # noqa: PLC0415

    stopping = threading.Event()
    try:
        context = _start_ray(ray, settings, options.scratch)
        signal.signal(signal.SIGINT, lambda *_: stopping.set())
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        serve.start(http_options={"host": _LOOPBACK, "port": options.port}, logging_config=_logging_config())
        _deploy_champions(settings, options.ready, context.address_info["address"], stopping)
    finally:
        options.ready.unlink(missing_ok=True)
        # Replicas hold nothing that must be written: Ray is let go at once, and everything of it goes along.
        ray.shutdown()
        shutil.rmtree(options.scratch, ignore_errors=True)
    return 0


def _start_ray(ray: Any, settings: Settings, scratch: Path) -> Any:
    """A Ray of our own, on loopback: by the node's address its agent decides where it listens and serves metrics.

    Servers of Ray that listen elsewhere all the same take the token in RAY_AUTH_TOKEN.
    """
    python = sys.executable
    client = Path(str(fork_server.__file__)).with_name("fork_server_client.py")
    python_wrapper = scratch / "python"
    python_wrapper.write_text(f'#!/bin/sh\nexec "{python}" -IS "{client}" "$@"\n')
    python_wrapper.chmod(0o700)
    sys.executable = str(python_wrapper)  # what Ray writes down as the program of its workers
    try:
        return ray.init(
            address="local", _node_ip_address=_LOOPBACK, num_cpus=max(1.0, settings.model_cpus),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False, log_to_driver=False, configure_logging=False, _temp_dir=str(scratch / "ray"),
            namespace="writecare", runtime_env=None,
        )  # fmt: skip
    finally:
        sys.executable = python


def _logging_config() -> dict[str, Any]:
    """No access lines (our own door writes them, without query or body), and JSON."""
    return {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}


def _deploy_champions(settings: Settings, ready: Path, ray_address: str, stopping: threading.Event) -> None:
    """Deploys the champions, says so once they answer, and deploys anew whenever they change."""
    from serving import deployment_config  # noqa: PLC0415 - as above

    seen_version = deployment_config.champions_file_version(settings)
    deployed = deployment_config.resolve_champions(settings)
    deployment_config.deploy(deployed, settings.model_cpus)
    deployment_config.wait_until_running(time.monotonic() + _DEPLOY_SECONDS, stopping)
    if stopping.is_set():
        return
    temporary_file = ready.with_name(f".{ready.name}.new")
    temporary_file.write_text(json.dumps({"pid": os.getpid(), "ray_address": ray_address}))
    temporary_file.rename(ready)
    ray_processes = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    while not stopping.wait(_POLL_SECONDS):
        _exit_if_one_died(ray_processes)
        if (version := deployment_config.champions_file_version(settings)) == seen_version:
            continue
        seen_version = version
        champions = deployment_config.resolve_if_changed(settings, deployed)
        if champions is not None:
            deployment_config.deploy(champions, settings.model_cpus)
            deployed = champions


def _exit_if_one_died(processes: Sequence[psutil.Process]) -> None:
    """Ends this process, and with it what is left of Ray, where one of Ray's own or the nursery is gone.

    A cluster without one of them does not mend itself, and letting go of it politely would wait for the dead.
    """
    for process in processes:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            structlog.get_logger(__name__).error("a process of Ray is gone", pid=process.pid)
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
