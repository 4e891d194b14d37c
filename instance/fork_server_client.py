"""Stands in Python's place when Ray starts a process: asks the nursery to fork a worker, else becomes Python itself.

What is not a worker (Ray's own agents) is tied to the life of its parent: two of them each hold the pipe by which
the other would notice the parent's end, and outlive it. Run with `python -IS` on the standard library alone, so that
it costs milliseconds; imported by nobody.
"""

import array
import ctypes
import json
import os
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """`arguments`: the interpreter's, as Ray wrote them. Ends this process or becomes Python."""
    place = next((at for at, argument in enumerate(arguments) if not argument.startswith("-")), len(arguments))
    is_worker = place < len(arguments) and os.path.basename(arguments[place]) == "default_worker.py"
    if not (is_worker and _request_fork(os.environ["WRITECARE_NURSERY"], arguments[place:])):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - becoming Python is the point


def _request_fork(address: str, arguments: list[str]) -> bool:
    """Whether the nursery has made a worker; waits while the nursery is still importing."""
    request = {"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd()}
    data = json.dumps(request).encode() + b"\n"
    streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            sent = connection.sendmsg([data], [streams])
            connection.sendall(data[sent:])
            return bool(connection.recv(32))
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
