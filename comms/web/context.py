"""The objects that one process opens at its start and shares: settings, database, storage, keys.

They are passed as a parameter and are never global. The API opens one `AppContext`; every request finds it at
`request.app.state.ctx`. The worker opens its own, which logs in to the database with the worker's role.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from comms.kernel.access.operations_token import OperationsToken
from comms.kernel.access.password_hashing import PasswordHasher
from comms.kernel.access.tokens import Issuer, Verifier
from comms.kernel.database import Database
from comms.kernel.decoder_slots import DecoderPool
from comms.kernel.mailer import Mailer, open_mailer
from comms.kernel.malware_scanner import Scanner, open_scanner
from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.kernel.storage.key_service import KeyService, LocalKeyFile
from comms.kernel.storage.object_store import Objects
from comms.outbox.notifier import Notifier, running_notifier
from comms.outbox.queries import OUTBOX_CHANNEL
from comms.web.rate_limits.limiter import RequestLimits, open_limits
from models.contract.errors import unavailable


@dataclass(frozen=True)
class AppContext:
    """One per process: settings, database, encrypted storage with its keys, tokens, passwords, metrics, limits …"""

    settings: Settings
    database: Database
    objects: Objects
    keys: KeyService
    issuer: Issuer
    verifier: Verifier
    passwords: PasswordHasher
    mailer: Mailer | None  # None: the settings name no server, so codes are printed
    metrics: Metrics
    limits: RequestLimits
    recording_decoders: DecoderPool
    attachment_decoders: DecoderPool
    scanner: Scanner
    operations_token: OperationsToken


@asynccontextmanager
async def open_app_context(settings: Settings, metrics: Metrics, *, connections: int = 10) -> AsyncIterator[AppContext]:
    """Opens all that `settings` name, and closes it at the end; raises `unavailable` if the database cannot be used."""
    if settings.role_database_url is None:
        raise unavailable("database-unnamed", "WRITECARE_ROLE_DATABASE_URL is not set: set it to a connection string.")
    keys_dir = settings.data_dir / "keys"
    issuer = Issuer.open(keys_dir, settings.issuer)  # before the verifier: it writes the public key
    outbox_notifier = Notifier(OUTBOX_CHANNEL)
    database = Database(
        settings.role_database_url.get_secret_value(), most=connections, on_event_committed=outbox_notifier.notify
    )
    wait_seconds = settings.decoder_wait_seconds
    recording_decoders = DecoderPool(settings.recording_decoders, wait_seconds)
    attachment_decoders = DecoderPool(settings.attachment_decoders, wait_seconds)
    await database.open()
    try:
        async with running_notifier(outbox_notifier, database), open_limits(settings) as limits:
            yield AppContext(
                settings=settings,
                database=database,
                objects=Objects.open(settings),
                keys=LocalKeyFile.open(keys_dir),
                issuer=issuer,
                verifier=Verifier.open(keys_dir, settings.issuer),
                passwords=PasswordHasher(),
                mailer=open_mailer(settings),
                metrics=metrics,
                limits=limits,
                recording_decoders=recording_decoders,
                attachment_decoders=attachment_decoders,
                scanner=open_scanner(settings),
                operations_token=OperationsToken.open(keys_dir, settings.operations_token),
            )
    finally:
        recording_decoders.close()
        attachment_decoders.close()
        await database.close()
