"""What is being done while a report is made, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Steps:
    """What is being done; a step that can tell its share has a bar. A line a step where nobody watches a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<44}"), BarColumn(20), TaskProgressColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> "Steps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, told: str, parts: float = 1.0) -> Iterator["Step"]:
        """One step of `parts` equal parts, done at the end of the block."""
        task = self._progress.add_task(told, total=parts)
        self.say(told)
        yield Step(self, self._progress, task, told)
        self._progress.update(task, completed=parts, description=told)

    def say(self, line: str) -> None:
        """A line, where there is no bar to look at."""
        if not self._console.is_terminal:
            self._console.print(f"{line} …")


class Step:
    """A step that is under way."""

    def __init__(self, steps: Steps, progress: Progress, task: Any, told: str) -> None:
        self._steps, self._progress, self._task, self._told = steps, progress, task, told

    def share(self, done: float) -> None:
        """How much is done, of the step's parts."""
        self._progress.update(self._task, completed=done)

    def part(self, name: str) -> None:
        """Another part has begun."""
        self._steps.say(f"{self._told}: {name}")
        self._progress.update(self._task, advance=1, description=f"{self._told}: {name}")
