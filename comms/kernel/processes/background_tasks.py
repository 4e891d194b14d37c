"""Ends a process's background tasks."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_ASK_AGAIN_SECONDS: Final = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until each has ended; an exception that a task raised stays in the task.

    It cancels repeatedly: the connection pool uses `asyncio.wait_for`, which in Python 3.11 loses a cancellation that
    arrives just when its wait ends (https://github.com/python/cpython/issues/86296).
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        ended, running = await asyncio.wait(running, timeout=_ASK_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # retrieved, otherwise asyncio logs that nobody retrieved it
