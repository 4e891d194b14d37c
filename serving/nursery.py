"""The nursery: Ray's worker processes start as forks of one process that has imported everything.

Each replica of a deployment is a process. Started the usual way it imports Ray Serve, torch and transformers anew:
about fourteen processor-seconds and 400 MB of its own, eight times over. Forked, it starts in a third of a second
and shares those pages with its siblings. What is started for Ray is `nursery_client.py` under Python's name; where
the nursery does not answer, that client starts the worker in the ordinary way, so that Ray never depends on it.

Forks are safe here because nothing runs yet: no Ray connection, no event loop, one thread of Python.
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

from comms.embedded import dying_with_parent

# What every Ray worker imports, and what replicas import beside it, in this order.
RAY_MODULES: Final = (
    "ray.serve", "ray.serve._private.replica", "ray.serve._private.controller", "ray.serve._private.proxy",
    "ray._private.workers", "ray._private.async_compat", "ray._private.runtime_env.setup_hook",
    "ray._private.external_storage", "uvicorn",
)  # fmt: skip
# pyannote.audio itself is not among them: importing it starts a thread, and what it imports is the bulk.
MODEL_MODULES: Final = ("torch", "serving.application", "lightning.pytorch", "spacy")

_MOST_BYTES: Final = 1 << 20


def import_all(modules: Sequence[str]) -> None:
    """Imports modules by name; one that is not there is left to whoever needs it."""
    for name in modules:
        importlib.import_module(name)


def raise_workers(listener: socket.socket) -> NoReturn:
    """Forks a worker for every request that comes in on `listener`, until killed."""
    if threading.active_count() != 1:
        raise RuntimeError("a nursery must not have threads of Python")
    gc.collect()
    gc.freeze()  # the collector would otherwise write to every object, and no page would stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers: Ray watches its connections
    while True:
        connection, _ = listener.accept()
        with connection:
            request, descriptors = _receive(connection)
            child = os.fork()
            if child == 0:
                listener.close()
                connection.close()
                _become_worker(request, descriptors)
            connection.sendall(str(child).encode())
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
        data += connection.recv(_MOST_BYTES)
    return json.loads(data), list(descriptors)


def _become_worker(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """This fork turns into the process that Ray asked for: its streams, environment, arguments; then its program."""
    code = 1
    try:
        dying_with_parent(signal.SIGKILL)()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
