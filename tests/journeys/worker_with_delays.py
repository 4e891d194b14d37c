"""A worker as the launcher starts it, with models that say in a folder what they are asked, and take their time."""

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
    """Leaves a mark of the capability in the folder, then waits: long enough for somebody to kill the worker there."""

    async def dwell() -> None:
        (folder / f"{capability}-{uuid.uuid4()}").touch()
        await asyncio.sleep(SECONDS)

    return dwell


if __name__ == "__main__":
    marks = Path(os.environ["MARKS"])
    models = ScriptedModels(before={name: dwelling(marks, name) for name in ("sentiment", "evidence")}, finds="grabbed")
    asyncio.run(work(Settings(), lambda: models, lambda: None))
