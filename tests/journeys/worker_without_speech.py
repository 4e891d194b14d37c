"""A worker as the launcher starts it, but with models that hear nothing."""

import asyncio

from comms.kernel.settings import Settings
from serving.worker import work
from tests.serving.quiet_models import StubModels

if __name__ == "__main__":
    models = StubModels()
    asyncio.run(work(Settings(), lambda: models, lambda: None))
