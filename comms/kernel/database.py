"""The one door to the database: `async with database.acting_as(actor) as conn`.

It opens a transaction and says, for that transaction only, which tenant, person and role act; row-level security
reads these settings. When the block ends well the transaction commits, else everything in it is undone.
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
    """A connection of the house. `has_emitted`: its transaction has laid something into the outbox."""

    has_emitted = False


@dataclass(frozen=True)
class RequestOrigin:
    """From where and why an act comes, as far as a door knows: the log of acts keeps it. `reason` is a code."""

    request_id: UUID | None = None
    address: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Actor:
    """Who acts: a person (or service) of one tenant, in one role; a guest, in one session too."""

    tenant_id: UUID
    user_id: UUID
    role: str
    sign_in_id: UUID | None = None  # none: a token of the command line, a key, a process of the house
    scopes: frozenset[str] | None = None  # what it may do of what its role may; none: all of that
    origin: RequestOrigin = field(default=RequestOrigin(), compare=False, repr=False)
    session_id: UUID | None = None  # a guest's: the one session that they were invited to


class Database:
    """A pool of connections of one role (`wcc_app`, `wcc_worker` …); one a process."""

    def __init__(self, url: str, *, most: int = 10, on_event_committed: Callable[[], None] = lambda: None) -> None:
        """`on_event_committed` is called after each commit of a transaction that laid something into the outbox.

        A request waits up to half a minute for a connection: on a small machine a hundred people who begin at once
        are all served within that time, and a 503 would only make them begin again.
        """
        self._on_event_committed = on_event_committed
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url, min_size=1, max_size=most, open=False, timeout=_WAIT_SECONDS, connection_class=Connection,
            kwargs={"row_factory": dict_row, "autocommit": True}, check=_check_connection,
        )  # fmt: skip

    async def open(self) -> None:
        """Raises `unavailable` where no connection can be made within ten seconds."""
        try:
            await self._pool.open(wait=True, timeout=10.0)
        except PoolTimeout:
            raise unavailable("database-unreachable", "The database cannot be reached; try again shortly.") from None

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def acting_as(self, actor: Actor) -> AsyncIterator[Connection]:
        """A transaction in the name of `actor`.

        Raises `unavailable` where the database cannot be reached, `invalid` (`text-invalid`) where it cannot keep a
        value.
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
        """A transaction without tenant: row-level security shows nothing. For health checks and the relay."""
        async with self._transaction() as conn:
            yield conn

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            # In a pipeline a statement is waited for when its rows are fetched, so that whatever returns none (begin,
            # settings, events, the log of acts) costs no round trip of its own. `conn.transaction()` would: it
            # synchronises at either end. What is raised here makes the pool's block roll back.
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
            # the exception's text quotes the value: its type alone is logged
            _log.warning("a value that the database cannot keep", error=type(error).__name__)
            raise invalid(
                "text-invalid",
                "A value cannot be kept: text with a NUL character or half of a character, or a number out of range.",
            ) from None


async def _check_connection(conn: Connection) -> None:
    """The pool's check of a connection before it is lent, without a round trip where all is well.

    A server that went away has closed its end, and a closed or dying connection has something to be read: only then
    is it asked. Raises `OperationalError` where it does not answer.
    """
    waiting = select.poll()
    waiting.register(conn.fileno(), select.POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(conn)


def one(row: DictRow | None) -> dict[str, Any]:
    """The row of a statement that must return one (insert … returning)."""
    assert row is not None, "a returning statement gave no row"
    return row
