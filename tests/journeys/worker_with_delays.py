"""A worker as the launcher starts it. Its models write a file for each call into a folder and answer with a delay."""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from comms.kernel.settings import Settings
from serving.worker import work
from tests.fakes import ScriptedModels

SECONDS = 0.4


def dwelling(folder: Path, capability: str) -> Callable[[], Awaitable[None]]:
    """Writes a file for the capability, then waits long enough for a test to kill the worker."""

    async def dwell() -> None:
        (folder / f"{capability}-{uuid.uuid4()}").touch()
        await asyncio.sleep(SECONDS)

    return dwell


if __name__ == "__main__":
    marks = Path(os.environ["MARKS"])
    models = ScriptedModels(before={name: dwelling(marks, name) for name in ("sentiment", "evidence")}, finds="grabbed")
    asyncio.run(work(Settings(), lambda: models, lambda: None))
