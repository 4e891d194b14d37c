"""What is being done while a report is made, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class ProgressSteps:
    """What is being done; a step that can tell its share has a bar. A line a step where nobody watches a terminal."""

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
        """A line, where there is no bar to look at."""
        if not self._console.is_terminal:
            self._console.print(f"{line} …")


class ProgressStep:
    """A step that is under way."""

    def __init__(self, steps: ProgressSteps, progress: Progress, task: Any, description: str) -> None:
        self._steps, self._progress, self._task, self._description = steps, progress, task, description

    def share(self, done: float) -> None:
        """How much is done, of the step's parts."""
        self._progress.update(self._task, completed=done)

    def part(self, name: str) -> None:
        """Another part has begun."""
        self._steps.print_line(f"{self._description}: {name}")
        self._progress.update(self._task, advance=1, description=f"{self._description}: {name}")
