"""What is being done while a report is made, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Steps:
    """What is being done, on standard error; a step that can tell its share has a bar."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<44}"), BarColumn(20), TaskProgressColumn(), TimeElapsedColumn(),
            console=Console(stderr=True),
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
        yield Step(self._progress, task, told)
        self._progress.update(task, completed=parts, description=told)


class Step:
    def __init__(self, progress: Progress, task: Any, told: str) -> None:
        self._progress, self._task, self._told = progress, task, told

    def share(self, done: float) -> None:
        self._progress.update(self._task, completed=done)

    def part(self, name: str) -> None:
        """Another part has begun."""
        self._progress.update(self._task, advance=1, description=f"{self._told}: {name}")
