"""Test child that simulates a compromised decoder: it tries every attack and reports the results.

If the file begins with `ordinary` and the tests run as root, the child first becomes a process of an ordinary user.
Arguments: `all`, `compute` or `sleep`; then the targets (`Places`). The child sends one record `R`: for each attack,
`done` or the name of the error that refused it. An attack that succeeds does not harm the process that runs the tests.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from models.confinement.sandbox import send
from models.confinement.seccomp import system_call

_NOBODY = 65534
_SEIZE = 0x4206  # PTRACE_SEIZE: trace without stopping
_LIBC = ctypes.CDLL(None, use_errno=True)
_X86_64 = os.uname().machine == "x86_64"
_IO_URING_SETUP, _PIDFD_OPEN, _PIDFD_SEND_SIGNAL = 425, 434, 424  # the same on every architecture


@dataclass(frozen=True)
class Places:
    """The targets of the attacks: the parent process, a file of its user, three kinds of listening sockets."""

    parent: int
    secret: str
    unix_socket: str
    abstract_socket: str
    port: int


def load(head: bytes) -> None:
    if head.startswith(b"ordinary") and os.geteuid() == 0:
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def main(arguments: list[str], source: BinaryIO, out: BinaryIO) -> None:
    if arguments[0] == "compute":
        while True:
            pass
    if arguments[0] == "sleep":
        time.sleep(1_000_000)
    places = Places(**json.loads(arguments[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails instead of killing the process
    send(out, b"R", {name: _tried(attack, places) for name, attack in ATTACKS.items()})


def _tried(attack: Callable[[Places], object], places: Places) -> str:
    try:
        attack(places)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "OSError")
    except (MemoryError, ImportError, RuntimeError, ValueError) as error:
        return type(error).__name__
    return "done"


def _called(number: int, *arguments: object) -> int:
    result = system_call(_LIBC, number, *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def _connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.connect(address)  # type: ignore[arg-type]


def _own_signals(places: Places) -> None:
    """Asks the kernel to send the pipe's signals to the parent. With O_ASYNC set, the kernel would send them."""
    fcntl.fcntl(1, fcntl.F_SETOWN, places.parent)


def _fork(places: Places) -> None:
    if os.fork() == 0:
        os._exit(0)


def _slow_down(places: Places) -> None:
    os.setpriority(os.PRIO_PROCESS, places.parent, os.getpriority(os.PRIO_PROCESS, places.parent))


def _start_thread(places: Places) -> None:
    threading.Thread(target=int).start()


def _write_the_file(places: Places) -> None:
    os.pwrite(0, b"!", 0)


def _map_the_file_for_writing(places: Places) -> None:
    mmap.mmap(0, 1, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[0] = 33


def _map_memory_to_run_code(places: Places) -> None:
    mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _list(path: str) -> None:
    if not os.listdir(path):
        raise FileNotFoundError(errno.ENOENT, "empty")


ATTACKS: dict[str, Callable[[Places], object]] = {
    "read a file of the system": lambda _: _read("/etc/passwd"),
    "read a file of the user": lambda places: _read(places.secret),
    "read a file by a relative path": lambda _: _read("etc/passwd"),
    "read a file above": lambda _: _read("../../../../../../etc/passwd"),
    "read a file of the interpreter": lambda _: _read(os.__file__),
    "read the parent's environment": lambda places: _read(f"/proc/{places.parent}/environ"),
    "read the parent's memory": lambda places: _read(f"/proc/{places.parent}/mem"),
    "write its own memory": lambda _: os.open("/proc/self/mem", os.O_RDWR),
    "open the file anew for writing": lambda _: os.open("/proc/self/fd/0", os.O_RDWR),
    "ask whether a file is there": lambda places: os.stat(places.secret),
    "list the root": lambda _: _list("/"),
    "list the working directory": lambda _: _list("."),
    "list processes": lambda _: _list("/proc"),
    "change the working directory": lambda _: os.chdir("/etc"),
    "leave the root": lambda _: os.chroot("../../.."),
    "import a module": lambda _: __import__("wave"),
    "make a file": lambda _: os.open("/tmp/taken-over", os.O_WRONLY | os.O_CREAT, 0o600),
    "make a file in the working directory": lambda _: os.open("taken-over", os.O_WRONLY | os.O_CREAT, 0o600),
    "make a directory": lambda _: os.mkdir("taken-over"),
    "make a file in memory": lambda _: os.memfd_create("taken-over"),
    "remove a file": lambda places: os.unlink(places.secret),
    "rename a file": lambda places: os.rename(places.secret, places.secret + "-"),
    "let everybody read a file": lambda places: os.chmod(places.secret, 0o666),
    "write the file that is read": _write_the_file,
    "map the file that is read for writing": _map_the_file_for_writing,
    "connect to a socket with a path": lambda places: _connect(socket.AF_UNIX, places.unix_socket),
    "connect to an abstract socket": lambda places: _connect(socket.AF_UNIX, "\0" + places.abstract_socket),
    "connect to this machine": lambda places: _connect(socket.AF_INET, ("127.0.0.1", places.port)),
    "send a datagram": lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9)),
    "make a pair of sockets": lambda _: socket.socketpair(),
    "ask the kernel about routes": lambda _: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "signal the parent": lambda places: os.kill(places.parent, 0),
    "signal everybody": lambda _: os.kill(-1, 0),
    "signal the parent by a descriptor": lambda places: _called(_PIDFD_OPEN, places.parent, 0),
    "signal the parent by a queue": lambda places: _called(129 if _X86_64 else 138, places.parent, 0, bytes(128)),
    "have signals sent to the parent": _own_signals,
    "limit the parent": lambda places: resource.prlimit(places.parent, resource.RLIMIT_CORE),
    "slow the parent down": _slow_down,
    "trace the parent": lambda places: _called(101 if _X86_64 else 117, _SEIZE, places.parent, 0, 0),
    "copy the parent's memory": lambda places: _called(310 if _X86_64 else 270, places.parent, None, 0, None, 0, 0),
    "share memory by System V": lambda _: _called(29 if _X86_64 else 194, 0, 4096, 0o1600),
    "start a process": _fork,
    "start a thread": _start_thread,
    "start a program": lambda _: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
    "queue work for the kernel": lambda _: _called(_IO_URING_SETUP, 1, bytes(120)),
    "load a program into the kernel": lambda _: _called(321 if _X86_64 else 280, 0, bytes(64), 64),
    "trace the kernel": lambda _: _called(298 if _X86_64 else 241, bytes(128), 0, -1, -1, 0),
    "mount": lambda _: _called(165 if _X86_64 else 40, b"none", b"/", b"tmpfs", 0, None),
    "enter a namespace of its own": lambda _: _called(272 if _X86_64 else 97, 0x10000000),
    "become another user": lambda _: os.setresuid(4711, 4711, 4711),
    "map memory to run code": _map_memory_to_run_code,
    "take more memory than it may have": lambda _: bytearray(8 << 30),
    "open many descriptors": lambda _: [os.dup(0) for _ in range(1_000)],
    "raise its limits": lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16)),
}
