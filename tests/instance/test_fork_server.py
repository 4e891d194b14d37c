"""The nursery forks a worker for every client, and outlives clients that are killed while they wait."""

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NURSERY = """
import socket, sys
from instance.fork_server import fork_workers
fork_workers(socket.socket(fileno=int(sys.argv[1])))
"""


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "nursery"


@pytest.fixture
def listener(address: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        yield listening


def asked(address: Path, script: Path) -> socket.socket:
    """A client that has sent its request, with the environment and streams of this process."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(address))
    request = {"arguments": [str(script)], "environment": dict(os.environ), "directory": os.getcwd()}
    with Path(os.devnull).open("r+b") as nothing:
        streams = array.array("i", [nothing.fileno()] * 3)
        sent = connection.sendmsg(
            [json.dumps(request).encode() + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
        )
    assert sent > 0
    return connection


def test_a_client_that_was_killed_while_it_waited_does_not_end_the_nursery(
    address: Path, listener: socket.socket, tmp_path: Path
) -> None:
    script = tmp_path / "worker.py"
    script.write_text("")
    asked(address, script).close()  # gone before the nursery has even begun
    nursery = subprocess.Popen(
        [sys.executable, "-P", "-c", _NURSERY, str(listener.fileno())],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=[listener.fileno()],
    )  # fmt: skip
    try:
        with asked(address, script) as patient:
            patient.settimeout(120)
            assert int(patient.recv(32)) > 0
        assert nursery.poll() is None
    finally:
        nursery.kill()
        nursery.wait()
