"""Starts the launcher's child processes in order, watches them, restarts them when they end, and stops them together.

One thread starts all children and outlives them, because the kernel ties a child's life (`dying_with_parent`) to the
thread that created it. A child that keeps ending is restarted with growing pauses. A process that depends on another
waits until that one is ready, and is restarted when that one was restarted.
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
_STABLE_SECONDS: Final = 60.0  # after so long without an end, the pauses are short again
_GRACE_SECONDS: Final = 20.0
_MOST_LOG_BYTES: Final = 16 << 20
_TRIES_AT_START: Final = 3

_log: Final = structlog.get_logger(__name__)


class SupervisedProcess(Protocol):
    """A child that the supervisor can start, check and stop."""

    name: str
    after: tuple[str, ...]  # names of the processes that must be ready before this one starts
    restarts_with: tuple[str, ...]  # those of `after` whose restart also restarts this one

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def ready(self) -> bool: ...
    def request_stop(self) -> None: ...
    def end(self) -> None: ...
    def pid(self) -> int | None: ...


class ChildProcess:
    """A Python process with its own log file. `command` and `environment` are called at every start."""

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
                start_new_session=True,  # Ctrl-C goes only to the launcher, which stops its children in order
                preexec_fn=dying_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only one system call, no Python locks
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
            _log.warning("child did not end in time and was killed", child=self.name)
            self._process.kill()
            self._process.wait()

    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None


class OneShotProcess(ChildProcess):
    """A process that does one task and ends. It is ready when it exits with code 0; otherwise it is restarted."""

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() in (None, 0)

    def ready(self) -> bool:
        return self._process is not None and self._process.poll() == 0


@dataclass
class _ChildState:
    """The supervisor's state of a child."""

    child: SupervisedProcess
    failures: int = 0
    restart_at: float = 0.0  # not before this time
    started: float | None = None  # None: not running
    was_ready: bool = False


@dataclass
class Supervisor:
    """Keeps the children running in this order from `start` to `stop`. Calls `report_progress` when one is ready."""

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
        """Returns when all are ready. Raises `unavailable` if one keeps ending, or after `seconds`."""
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
        """Raises `unavailable` if the thread that watches the children has ended."""
        if not self._thread.is_alive():
            raise unavailable(
                "supervisor-ended",
                "The supervisor has stopped, so failed processes are not restarted: restart the system.",
            )

    def stop(self) -> None:
        """Stops all children. A child is stopped before the children it depends on."""
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
        """Checks one child and logs any error, so that the other children are still watched."""
        try:
            self._check_child(state)
        except Exception as error:
            # only the class: a driver's message may contain a connection string
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
        """Stops children on which no running child depends; several at a time if possible."""
        left = [state.child for state in self._states if state.started is not None]
        while left:
            names = {name for child in left for name in child.after}
            free = [child for child in left if child.name not in names]
            for child in free:
                child.request_stop()
            for child in free:
                child.end()
            left = [child for child in left if child not in free]
