"""A worker as the launcher starts it, with models that find no speech."""

import asyncio

from comms.kernel.settings import Settings
from serving.worker import work
from tests.serving.quiet_models import StubModels

if __name__ == "__main__":
    models = StubModels()
    asyncio.run(work(Settings(), lambda: models, lambda: None))
