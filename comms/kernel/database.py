"""The only way to use the database: `async with database.acting_as(actor) as conn` opens a transaction for the actor.

It sets the tenant, the person and the role of the actor for that transaction only; row-level security reads these
settings. The transaction commits if the block ends without an exception; otherwise it is rolled back.
"""

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from psycopg import AsyncConnection, DataError, OperationalError
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from models.contract.errors import invalid, unavailable

_WAIT_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


class Connection(AsyncConnection[DictRow]):
    """A connection of the platform. `has_emitted`: its transaction wrote a row to the outbox."""

    has_emitted = False


@dataclass(frozen=True)
class RequestOrigin:
    """From where and why a change is made, as far as it is known, for the audit log. `reason` is a code."""

    request_id: UUID | None = None
    address: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Actor:
    """Who acts: a person or service of one tenant, in one role; a guest also belongs to one session."""

    tenant_id: UUID
    user_id: UUID
    role: str
    sign_in_id: UUID | None = None  # None: a token of the command line, a key, an internal process
    scopes: frozenset[str] | None = None  # the only permissions of its role that it may use; None: all of them
    origin: RequestOrigin = field(default=RequestOrigin(), compare=False, repr=False)
    session_id: UUID | None = None  # for a guest: the one session of the invitation


class Database:
    """A pool of connections of one database role (`wcc_app`, `wcc_worker` …); one per process."""

    def __init__(self, url: str, *, most: int = 10, on_event_committed: Callable[[], None] = lambda: None) -> None:
        """`on_event_committed` is called after each commit of a transaction that wrote to the outbox.

        A request waits up to 30 seconds for a connection. On a small machine, a hundred people who begin at once are
        all served within that time; a 503 would only make them begin again.
        """
        self._on_event_committed = on_event_committed
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url, min_size=1, max_size=most, open=False, timeout=_WAIT_SECONDS, connection_class=Connection,
            kwargs={"row_factory": dict_row, "autocommit": True}, check=_check_connection,
        )  # fmt: skip

    async def open(self) -> None:
        """Opens the pool; raises `unavailable` if no connection can be made within ten seconds."""
        try:
            await self._pool.open(wait=True, timeout=10.0)
        except PoolTimeout:
            raise unavailable("database-unreachable", "The database cannot be reached; try again shortly.") from None

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def acting_as(self, actor: Actor) -> AsyncIterator[Connection]:
        """Opens a transaction for `actor`.

        Raises `unavailable` if the database cannot be reached, `invalid` (`text-invalid`) if it cannot store a value.
        """
        async with self._transaction() as conn:
            await conn.execute(
                "select set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true), "
                "set_config('app.role', %s, true), set_config('app.request_id', %s, true), "
                "set_config('app.address', %s, true), set_config('app.reason', %s, true), "
                "set_config('app.session_id', %s, true)",
                (
                    str(actor.tenant_id), str(actor.user_id), actor.role, str(actor.origin.request_id or ""),
                    actor.origin.address or "", actor.origin.reason or "", str(actor.session_id or ""),
                ),
            )  # fmt: skip
            yield conn

    @asynccontextmanager
    async def without_tenant(self) -> AsyncIterator[Connection]:
        """Opens a transaction without a tenant: row-level security shows no rows. For health checks, for example."""
        async with self._transaction() as conn:
            yield conn

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            # In a pipeline, only fetching rows waits for the server. So statements without rows (begin, settings,
            # events, audit entries) cost no round trip. `conn.transaction()` would cost two: it synchronises at its
            # start and its end. If the block raises, the pool rolls the transaction back.
            async with self._pool.connection() as conn:
                conn.has_emitted = False
                async with conn.pipeline():
                    await conn.execute("begin")
                    yield conn
                    await conn.execute("commit")
                if conn.has_emitted:
                    self._on_event_committed()
        except (PoolTimeout, OperationalError):
            raise unavailable("database-unreachable", "The database cannot be reached; try again shortly.") from None
        except (DataError, UnicodeEncodeError) as error:
            # the exception's text quotes the value: log only its type
            _log.warning("a value that the database cannot store", error=type(error).__name__)
            raise invalid(
                "text-invalid",
                "A value cannot be stored: send no NUL character, no unpaired surrogate and no number out of range.",
            ) from None


async def _check_connection(conn: Connection) -> None:
    """The pool's check of a connection before each use, without a round trip for a healthy connection.

    A connection that the server has closed or is closing has data to read. Only then is the server asked. Raises
    `OperationalError` if it does not answer.
    """
    waiting = select.poll()
    waiting.register(conn.fileno(), select.POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(conn)


def one(row: DictRow | None) -> dict[str, Any]:
    """The row of a statement that must return one (insert … returning)."""
    assert row is not None, "a statement with `returning` gave no row"
    return row
