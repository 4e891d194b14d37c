"""The fork server: Ray's worker processes are forked from one process that has already imported the libraries.

Each replica of a deployment is a process. Started in the usual way it imports pandas, torch and transformers itself:
about fourteen processor-seconds and 400 MB, ten times. A fork starts in under a second and shares those pages with the
other forks. Ray starts `fork_server_client.py` instead of Python. If the fork server does not answer, the client starts
the worker in the usual way, so Ray never depends on the fork server.

Each fork imports Ray itself. Ray draws the ids of tasks and objects from generators that are seeded once per process;
forks of a process with seeded generators would draw the same ids. Apart from Ray, forking is safe because nothing runs
yet: there is no connection, no event loop, and only one Python thread.
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

# The other libraries that Ray and Ray Serve import. They are imported before the fork server is forked.
PRELOADED_FOR_RAY: Final = (
    "pandas", "fastapi", "uvicorn", "aiohttp", "grpc.aio", "jsonschema", "google.protobuf.json_format", "requests",
    "opentelemetry.sdk.metrics", "prometheus_client", "psutil", "filelock", "yaml", "msgpack", "uvloop", "tqdm",
)  # fmt: skip

# What replicas import: all our modules below `serving`. The import rules keep Ray out of them.
# pyannote.audio is not in the list: importing it starts a thread. lightning is most of what it imports.
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
    """Forks a worker for every request on `listener`, until this process is killed."""
    if threading.active_count() != 1 or "ray" in sys.modules:
        raise RuntimeError("a fork server must have only one Python thread and must not have imported Ray")
    gc.collect()
    gc.freeze()  # otherwise the garbage collector writes to every object, and no page stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers: Ray watches its connections to them
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                request, descriptors = _receive(connection)
            except (EOFError, ValueError):
                continue  # the client was killed before it sent its whole request
            child = os.fork()
            if child == 0:
                listener.close()
                connection.close()
                _run_worker(request, descriptors)
            try:
                connection.sendall(str(child).encode())
            except OSError:
                # Ray dropped the client while it waited. Ray would refuse a worker that it does not expect.
                os.kill(child, signal.SIGKILL)
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Reads a client's request (arguments, environment, directory) and its standard streams."""
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
    """Turns this fork into the process that Ray asked for: sets streams, environment, arguments; runs its program."""
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
