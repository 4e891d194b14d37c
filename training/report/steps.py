"""Shows on standard error which step of a report is running."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class ProgressSteps:
    """The steps of a report, each with a progress bar. Without a terminal, one line per step."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<44}"), BarColumn(20), TaskProgressColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> "ProgressSteps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, description: str, parts: float = 1.0) -> Iterator["ProgressStep"]:
        """One step of `parts` equal parts, done at the end of the block."""
        task = self._progress.add_task(description, total=parts)
        self.print_line(description)
        yield ProgressStep(self, self._progress, task, description)
        self._progress.update(task, completed=parts, description=description)

    def print_line(self, line: str) -> None:
        """Prints a line if there is no progress bar."""
        if not self._console.is_terminal:
            self._console.print(f"{line} …")


class ProgressStep:
    """A running step."""

    def __init__(self, steps: ProgressSteps, progress: Progress, task: Any, description: str) -> None:
        self._steps, self._progress, self._task, self._description = steps, progress, task, description

    def share(self, done: float) -> None:
        """Sets how many of the step's parts are done."""
        self._progress.update(self._task, completed=done)

    def part(self, name: str) -> None:
        """Starts the next part."""
        self._steps.print_line(f"{self._description}: {name}")
        self._progress.update(self._task, advance=1, description=f"{self._description}: {name}")
