"""Ray starts this script instead of Python. It asks the fork server for a worker; if that fails, it executes Python.

Processes that are not workers (Ray's own agents) are tied to the life of their parent: otherwise two of them each hold
the pipe by which the other would notice the parent's end, and outlive it. It runs with `python -IS` and uses only the
standard library, so that it costs milliseconds. No module imports it.
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
    """`arguments`: those of the interpreter, as Ray wrote them. Ends this process or replaces it by Python."""
    place = next((at for at, argument in enumerate(arguments) if not argument.startswith("-")), len(arguments))
    is_worker = place < len(arguments) and os.path.basename(arguments[place]) == "default_worker.py"
    if not (is_worker and _request_fork(os.environ["WRITECARE_NURSERY"], arguments[place:])):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - this process is to become Python


def _request_fork(address: str, arguments: list[str]) -> bool:
    """Whether the fork server created a worker. Waits while the fork server is still importing."""
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
