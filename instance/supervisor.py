"""The processes under the launcher: started in order, watched, started again when they die, ended together.

One thread starts all of them and outlives them, for the kernel ties a child's life (`dying_with_parent`) to the
thread that made it. A child that keeps dying is tried again with growing pauses; one that leans on another waits
for it, and is started anew when that one had to be.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from instance.parent_death import dying_with_parent
from models.contract.errors import WriteCareError, unavailable

_TICK_SECONDS: Final = 0.1
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 60.0  # after so long the pauses begin anew
_GRACE_SECONDS: Final = 20.0
_MOST_LOG_BYTES: Final = 16 << 20
_TRIES_AT_START: Final = 3

_log: Final = structlog.get_logger(__name__)


class SupervisedProcess(Protocol):
    """Something that runs and can be asked whether it does."""

    name: str
    after: tuple[str, ...]  # who must be ready before it is started
    restarts_with: tuple[str, ...]  # of those, who cannot be replaced under it: then it is started anew too

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def ready(self) -> bool: ...
    def request_stop(self) -> None: ...
    def end(self) -> None: ...
    def pid(self) -> int | None: ...


class ChildProcess:
    """A Python process of ours with its log file. `command` and `environment` are asked anew at every start."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: Callable[[], Mapping[str, str]],
        log_file: Path,
        is_ready: Callable[[], bool],
        *,
        after: tuple[str, ...] = (),
        restarts_with: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.after = after
        self.restarts_with = restarts_with
        self._command = command
        self._environment = environment
        self._log_file = log_file
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._log_file.exists() and self._log_file.stat().st_size > _MOST_LOG_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        log = os.open(self._log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._process = subprocess.Popen(
                list(self._command()), env=dict(self._environment()), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the launcher, which ends its children in order
                preexec_fn=dying_with_parent(signal.SIGKILL),  # noqa: PLW1509 - one system call, nothing of Python's
            )  # fmt: skip
        finally:
            os.close(log)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        return self.alive() and self._is_ready()

    def request_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _log.warning("child did not end in time and is killed", child=self.name)
            self._process.kill()
            self._process.wait()

    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None


class OneShotProcess(ChildProcess):
    """A process that does one thing and ends: ready once it ended well, started again where it did not."""

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() in (None, 0)

    def ready(self) -> bool:
        return self._process is not None and self._process.poll() == 0


@dataclass
class _ChildState:
    """What the supervisor knows of a child."""

    child: SupervisedProcess
    failures: int = 0
    restart_at: float = 0.0  # not before this moment
    started: float | None = None  # None: not running
    was_ready: bool = False


@dataclass
class Supervisor:
    """Keeps the children alive, in the order given, from `start` to `stop`. `report_progress` hears of each that is ready."""

    children: Sequence[SupervisedProcess]
    report_progress: Callable[[str], None]
    on_ready: Callable[[SupervisedProcess], None]
    _states: list[_ChildState] = field(init=False)
    _stopping: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._states = [_ChildState(child) for child in self.children]
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_ready(self, seconds: float) -> None:
        """Returns when all are ready; raises `unavailable` where one keeps dying, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not all(state.was_ready for state in self._states):
            failing = next((r.child.name for r in self._states if r.failures >= _TRIES_AT_START), None)
            late = next((r.child.name for r in self._states if not r.was_ready), "")
            if failing is not None or time.monotonic() > deadline or not self._thread.is_alive():
                name = failing or late
                raise unavailable(
                    "start-failed", f"{name} does not start; logs/{name}.log in the data folder says why."
                )
            time.sleep(0.02)

    def require_running(self) -> None:
        """Raises `unavailable` where the thread that watches the children has ended."""
        if not self._thread.is_alive():
            raise unavailable("supervisor-ended", "Nobody watches the parts any more: start it again.")

    def stop(self) -> None:
        """Ends all: whoever uses a thing before the thing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for state in self._states:
                    self._check_child_safely(state)
                self._stopping.wait(_TICK_SECONDS)
        finally:
            self._stop_all()

    def _check_child_safely(self, state: _ChildState) -> None:
        """Nothing that goes wrong with one child, or with telling of it, may leave the others unwatched."""
        try:
            self._check_child(state)
        except Exception as error:
            # the class alone: a driver's message may carry a connection string
            _log.error("watching a child failed", child=state.child.name, error=type(error).__name__)

    def _check_child(self, state: _ChildState) -> None:
        now = time.monotonic()
        if state.started is not None and not state.child.alive():
            self._schedule_restart(state, now)
        if state.started is None and now >= state.restart_at and self._dependencies_ready(state):
            self._start(state)
        if state.started is not None and not state.was_ready and state.child.ready():
            state.was_ready = True
            self.on_ready(state.child)
            self.report_progress(f"{state.child.name} is ready")

    def _dependencies_ready(self, state: _ChildState) -> bool:
        return all(other.was_ready for other in self._states if other.child.name in state.child.after)

    def _start(self, state: _ChildState) -> None:
        state.started = time.monotonic()
        try:
            state.child.start()
        except Exception as error:
            error_text = str(error) if isinstance(error, WriteCareError | OSError) else type(error).__name__
            _log.error("child cannot be started", child=state.child.name, error=error_text)
            self._schedule_restart(state, time.monotonic())

    def _schedule_restart(self, state: _ChildState, now: float) -> None:
        uptime = now - (state.started or now)
        state.failures = 1 if uptime > _STABLE_SECONDS else state.failures + 1
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (state.failures - 1))
        state.started, state.was_ready, state.restart_at = None, False, now + pause
        self.report_progress(f"{state.child.name} ended by itself; it is started again in {pause:g} s")
        for other in self._states:
            if state.child.name in other.child.restarts_with and other.started is not None:
                other.child.request_stop()
                other.child.end()
                other.started, other.was_ready = None, False

    def _stop_all(self) -> None:
        """The last to lean on others first; those that nobody leans on any more end side by side."""
        left = [state.child for state in self._states if state.started is not None]
        while left:
            names = {name for child in left for name in child.after}
            free = [child for child in left if child.name not in names]
            for child in free:
                child.request_stop()
            for child in free:
                child.end()
            left = [child for child in left if child not in free]
