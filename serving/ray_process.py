"""The models process: starts Ray on this machine and deploys the models on it.

    python -m serving.ray_process --port PORT --ready FILE --scratch DIR

All Ray processes (Ray's servers, the fork server, every replica) are descendants of this process and end with it,
however it ends. The launcher starts it, waits for FILE, and passes the settings in the environment. Only this process
deploys: when `champions.json` names another version, it changes `user_config`, and the replicas load that version.

HTTP uses Serve's own proxy. Its HAProxy mode answers in a fraction of the time per request, but it opens statistics and
metrics pages on every interface of the machine, keeps its files in one directory for all instances, and adds two
processes. A model call takes tens of milliseconds and the proxy only a few, so the gain is not worth that here.
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

# three hours of audio are 690 MB; pages are allocated only when they are written
_OBJECT_STORE_BYTES: Final = 800 << 20
_LOOPBACK: Final = "127.0.0.1"
_DEPLOY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 1.0


def main() -> int:
    """Runs until SIGTERM or SIGINT. Exit code 1 if the models did not start."""
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
    parser.add_argument("--port", type=int, required=True, help="port of the model endpoints, on loopback")
    parser.add_argument("--ready", type=Path, required=True, help="written when all models answer")
    parser.add_argument("--scratch", type=Path, required=True, help="directory for Ray's own files; a short path")
    return parser.parse_args()


def _bind_fork_server(scratch: Path) -> tuple[socket.socket, Path]:
    """The socket of the fork server. It listens before the first client connects, so that an early client waits."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = scratch / "nursery"
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(128)
    return listener, address


def _prepare_environment(scratch: Path, fork_server_address: Path) -> None:
    # Without this file in its home, Ray asks the metadata addresses of three clouds where it runs, for a report that is
    # switched off. tests/journeys shows that no such request is sent.
    (scratch / "ray_bootstrap_config.yaml").write_text("{provider: {type: local}, min_workers: 0}\n")
    os.environ.update(
        HOME=str(scratch),
        WRITECARE_NURSERY=str(fork_server_address),
        RAY_worker_niceness="0",
        # The first workers wait for the imports of the fork server, which take minutes on a busy machine. After Ray's
        # default of 60 s the raylet drops them and never starts others: `ray.init` then hangs.
        RAY_worker_register_timeout_seconds="600",
        # Audio that does not fit in memory must wait: spilled to disk it would be unencrypted (docs/decisions/0009).
        RAY_automatic_object_spilling_enabled="0",
        RAY_SERVE_LOG_TO_STDERR="0",
        # With the default, each of ten idle processes wakes ten times a second, for metrics that nobody reads here.
        RAY_SERVE_METRICS_EXPORT_INTERVAL_MS="5000",
        RAY_SERVE_CONTROL_LOOP_INTERVAL_S="0.5",
    )


def _start_fork_server(listener: socket.socket) -> None:
    """Forks the fork server. It continues to import while this process starts Ray."""
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
        structlog.get_logger(__name__).error("fork server failed; Ray starts its workers itself", error=repr(error))
    finally:
        os._exit(1)  # never return into the parent's code


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    import ray  # noqa: PLC0415 - only after the fork server was forked: it must not import Ray
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
        # Replicas hold nothing that must be written: Ray and all its processes are stopped at once.
        ray.shutdown()
        shutil.rmtree(options.scratch, ignore_errors=True)
    return 0


def _start_ray(ray: Any, settings: Settings, scratch: Path) -> Any:
    """Starts Ray on loopback: from the node's address Ray's agent decides where it listens and serves metrics.

    Ray servers that listen on other addresses all the same require the token in RAY_AUTH_TOKEN.
    """
    python = sys.executable
    client = Path(str(fork_server.__file__)).with_name("fork_server_client.py")
    python_wrapper = scratch / "python"
    python_wrapper.write_text(f'#!/bin/sh\nexec "{python}" -IS "{client}" "$@"\n')
    python_wrapper.chmod(0o700)
    sys.executable = str(python_wrapper)  # Ray records this as the program of its workers
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
    """JSON logs without access lines: our ingress writes those itself, without query or body."""
    return {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}


def _deploy_champions(settings: Settings, ready: Path, ray_address: str, stopping: threading.Event) -> None:
    """Deploys the champions, writes the ready file once they answer, and deploys again whenever they change."""
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
    """Ends this process, and with it the rest of Ray, if one of Ray's processes or the fork server has ended.

    A cluster without one of them does not recover, and an orderly shutdown would wait for the ended process.
    """
    for process in processes:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            structlog.get_logger(__name__).error("a process of Ray has ended", pid=process.pid)
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
