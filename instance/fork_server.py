"""The nursery: Ray's worker processes start as forks of one process that has imported the libraries.

Each replica of a deployment is a process. Started the usual way it imports pandas, torch and transformers anew:
about fourteen processor-seconds and 400 MB of its own, ten times over. Forked, it starts in under a second and
shares those pages with its siblings. What is started for Ray is `fork_server_client.py` under Python's name; where the
nursery does not answer, that client starts the worker in the ordinary way, so that Ray never depends on it.

Ray itself is imported by each fork anew: its library draws the ids of tasks and objects from generators that are
seeded once a process, and forks of a seeded one would draw the same ids. For the rest forks are safe because
nothing runs yet: no connection, no event loop, one thread of Python.
"""

import array
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from instance.parent_death import dying_with_parent

# What Ray and Ray Serve import beside their own: imported before the models' process and the nursery part.
PRELOADED_FOR_RAY: Final = (
    "pandas", "fastapi", "uvicorn", "aiohttp", "grpc.aio", "jsonschema", "google.protobuf.json_format", "requests",
    "opentelemetry.sdk.metrics", "prometheus_client", "psutil", "filelock", "yaml", "msgpack", "uvloop", "tqdm",
)  # fmt: skip

# What replicas import: everything of ours below `serving`, which by the house's import rules knows no Ray.
# pyannote.audio is not among them: importing it starts a thread; lightning is the bulk of what it imports.
PRELOADED_FOR_REPLICAS: Final = (
    "models.text.analysis", "models.speech.transcription", "models.speech.diarization", "models.text.embedding",
    "models.text.compliance",
    "comms.ai.routes", "comms.ai.lawful_use", "pipelines.analysis", "pipelines.track_transcription",
    "lightning.pytorch", "spacy",
)  # fmt: skip

_MOST_BYTES: Final = 1 << 20


def import_all(modules: Sequence[str]) -> None:
    """Imports modules by name."""
    for name in modules:
        importlib.import_module(name)


def fork_workers(listener: socket.socket) -> NoReturn:
    """Forks a worker for every request that comes in on `listener`, until killed."""
    if threading.active_count() != 1 or "ray" in sys.modules:
        raise RuntimeError("a nursery must have no threads of Python, and must not have imported Ray")
    gc.collect()
    gc.freeze()  # the collector would otherwise write to every object, and no page would stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers: Ray watches its connections
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                request, descriptors = _receive(connection)
            except (EOFError, ValueError):
                continue  # whoever asked was killed half way
            child = os.fork()
            if child == 0:
                listener.close()
                connection.close()
                _run_worker(request, descriptors)
            try:
                connection.sendall(str(child).encode())
            except OSError:
                # Ray gave the client up while it waited; a worker that Ray does not expect would be refused.
                os.kill(child, signal.SIGKILL)
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The request of a client (arguments, environment, directory) and its standard streams."""
    descriptors = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(_MOST_BYTES, socket.CMSG_LEN(3 * descriptors.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    while not data.endswith(b"\n"):
        if not (more := connection.recv(_MOST_BYTES)):
            for descriptor in descriptors:
                os.close(descriptor)
            raise EOFError
        data += more
    return json.loads(data), list(descriptors)


def _run_worker(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """This fork turns into the process that Ray asked for: its streams, environment, arguments; then its program."""
    code = 1
    try:
        dying_with_parent(signal.SIGKILL)()
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        script = Path(request["arguments"][0])
        sys.argv = request["arguments"]
        sys.path.insert(0, str(script.parent))  # as the interpreter does for a script
        runpy.run_path(str(script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)
    raise AssertionError("unreachable")
