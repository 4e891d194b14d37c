"""What a process of the communications core holds open: the rooms' shared foundations, passed inward, never global.

The API opens a house at its start and every request finds it at `request.app.state.house`; the worker opens one of
its own, with its own role's door to the database.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from comms.database import Database
from comms.identity.tokens import Issuer, Verifier
from comms.metrics import Metrics
from comms.settings import Settings
from comms.storage.keys import KeyService, LocalKeyFile
from comms.storage.objects import Objects
from models.errors import unavailable


@dataclass(frozen=True)
class House:
    """One a process: settings, database, encrypted storage with its keys, the check of tokens, measurements."""

    settings: Settings
    database: Database
    objects: Objects
    keys: KeyService
    issuer: Issuer
    verifier: Verifier
    metrics: Metrics
    decoders: asyncio.Semaphore  # how many uploads are decoded at a time: each takes a processor


@asynccontextmanager
async def open_house(settings: Settings, metrics: Metrics, *, connections: int = 10) -> AsyncIterator[House]:
    """Opens everything that `settings` name and closes it in the end; raises `unavailable` where the database is."""
    if settings.role_database_url is None:
        raise unavailable("database-unnamed", "WRITECARE_ROLE_DATABASE_URL is not set: where to log in is unknown.")
    keys_dir = settings.data_dir / "keys"
    issuer = Issuer.open(keys_dir, settings.issuer)  # before the verifier: makes its public key where it is missing
    database = Database(settings.role_database_url.get_secret_value(), most=connections)
    await database.open()
    try:
        yield House(
            settings=settings,
            database=database,
            objects=Objects.open(settings),
            keys=LocalKeyFile.open(keys_dir),
            issuer=issuer,
            verifier=Verifier.open(keys_dir, settings.issuer),
            metrics=metrics,
            decoders=asyncio.Semaphore(2),
        )
    finally:
        await database.close()
