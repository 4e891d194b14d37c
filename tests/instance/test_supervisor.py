"""Children under the supervisor: started in order, again after they die, ended in order. Real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from instance.supervisor import ChildProcess, OneShotProcess, SupervisedProcess, Supervisor
from models.contract.errors import WriteCareError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervise(told: list[str]) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def start(*children: SupervisedProcess) -> Supervisor:
        supervisor = Supervisor(children, told.append, lambda _: None)
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in made:
        supervisor.stop()


def sleeper(
    name: str, folder: Path, *, after: tuple[str, ...] = (), restarts_with: tuple[str, ...] = ()
) -> ChildProcess:
    return ChildProcess(
        name, lambda: SLEEPER, lambda: os.environ, folder / f"{name}.log", lambda: True,
        after=after, restarts_with=restarts_with,
    )  # fmt: skip


def next_pid(child: ChildProcess, old: int | None) -> int:
    """The process id after `old`."""
    while (pid := child.pid()) in (None, old) or not child.alive():
        time.sleep(0.02)
    assert pid is not None
    return pid


def test_each_is_started_once_what_it_comes_after_is_ready(
    supervise: Callable[..., Supervisor], told: list[str], tmp_path: Path
) -> None:
    supervise(sleeper("second", tmp_path, after=("first",)), sleeper("first", tmp_path)).wait_ready(30)
    assert told == ["first is ready", "second is ready"]


def test_a_killed_child_is_started_again(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    child = sleeper("child", tmp_path)
    supervise(child).wait_ready(30)
    killed = child.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert psutil.pid_exists(next_pid(child, killed))


def test_who_leans_on_a_killed_child_is_started_anew_and_others_are_not(
    supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    ground = sleeper("ground", tmp_path)
    leaning = sleeper("leaning", tmp_path, after=("ground",), restarts_with=("ground",))
    beside = sleeper("beside", tmp_path, after=("ground",))
    supervise(ground, leaning, beside).wait_ready(30)
    before, untouched, killed = leaning.pid(), beside.pid(), ground.pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    next_pid(ground, killed)
    next_pid(leaning, before)
    assert beside.pid() == untouched


def test_a_child_that_never_stands_is_named(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    broken = ChildProcess(
        "broken", lambda: [sys.executable, "-c", "raise SystemExit(1)"], lambda: os.environ,
        tmp_path / "broken.log", lambda: False,
    )  # fmt: skip
    with pytest.raises(WriteCareError, match=r"broken does not start; logs/broken\.log"):
        supervise(broken).wait_ready(60)


def test_a_task_is_ready_when_it_has_ended_well(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    task = OneShotProcess(
        "task", lambda: [sys.executable, "-c", ""], lambda: os.environ, tmp_path / "task.log", lambda: True
    )
    supervise(task).wait_ready(30)
    first = task.pid()
    time.sleep(1.0)
    assert task.pid() == first


def test_all_end_with_the_supervisor(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    children = [sleeper("first", tmp_path), sleeper("second", tmp_path, after=("first",))]
    supervisor = supervise(*children)
    supervisor.wait_ready(30)
    supervisor.stop()
    assert [child.alive() for child in children] == [False, False]


def test_children_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from instance.supervisor import Supervisor
from tests.instance.test_supervisor import sleeper
child = sleeper("child", Path({str(tmp_path)!r}))
supervisor = Supervisor([child], lambda _: None, lambda _: None)
supervisor.start()
supervisor.wait_ready(30)
print(child.pid(), flush=True)
time.sleep(600)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    ) as launcher:
        assert launcher.stdout is not None
        child = psutil.Process(int(launcher.stdout.readline()))
        launcher.kill()
    assert psutil.wait_procs([child], timeout=20)[1] == []
