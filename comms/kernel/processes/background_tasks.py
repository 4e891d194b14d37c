"""Background tasks of a process: how they are brought to their end."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_ASK_AGAIN_SECONDS: Final = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until each has ended; what they raised stays with them.

    Asked again and again: `asyncio.wait_for` in Python 3.11, which the connection pool waits with, loses a
    cancellation that comes in the moment its wait is over (https://github.com/python/cpython/issues/86296).
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        ended, running = await asyncio.wait(running, timeout=_ASK_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, or the loop would complain that nobody did
