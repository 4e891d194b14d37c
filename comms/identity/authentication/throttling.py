"""Wrong tries slow down whoever makes them and lock nobody out (docs/decisions/0035).

Each try of a browser that the person is not known from is counted against the account from that address, and against
the address. So many are free, then one an interval: a 429 that says when. A browser that the person has signed in from
is counted for itself alone, so that strangers' tries never slow it. Many tries at one account from everywhere leave
every further address one try, never none.

A try is counted before anything is checked, so that a hundred at once are a hundred; one that was no guess is taken
back. Accounts are counted whether they exist or not: the answers are alike.
"""

import asyncio
import hashlib
import math
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from comms.kernel.access.system_actor import NOBODY, door
from comms.kernel.database import Connection, Database
from comms.web.rate_limits.client_addresses import network_of
from models.contract.errors import Kind, WriteCareError

_AUDITED_EVERY: Final = "15 minutes"
_PAUSE_SECONDS: Final = 600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Subject:
    """What is counted: `burst` tries are free, then one in `interval_seconds`."""

    kind: Literal["account_from_address", "address", "account", "known_browser", "own"]
    name: str
    burst: int
    interval_seconds: float

    @property
    def hash(self) -> bytes:
        """The key under which it is counted."""
        return hashlib.sha256(f"{self.kind}:{self.name}".encode()).digest()

    def __repr__(self) -> str:
        return f"Subject({self.kind})"


class TooManyTries(WriteCareError):
    """429 (`too-many-requests`); remembers which subject has to wait."""

    def __init__(self, subject: Subject, seconds: int) -> None:
        detail = "Too many tries were wrong: wait, then try again."
        super().__init__(Kind.REFUSED, "too-many-requests", detail, seconds)
        self.subject = subject


@dataclass(frozen=True)
class Tries:
    """The subjects that one try at signing in is counted against."""

    refusing: tuple[Subject, ...]
    account: Subject | None = None  # of unknown browsers: refuses nobody, makes `refusing[0]` stricter


def tries_of(tenant: str, user: str, address: str | None, browser: str | None) -> Tries:
    """Of an account by its slugs, from the address; `browser`: the nonce of a browser that the person is known from."""
    name = f"{tenant}/{user}"
    if browser is not None:
        return Tries((Subject("known_browser", f"{name}/{browser}", burst=10, interval_seconds=120),))
    network = network_of(address)
    return Tries(
        (
            Subject("account_from_address", f"{name}/{network}", burst=10, interval_seconds=120),
            # a home of forty people behind one address
            Subject("address", network, burst=100, interval_seconds=6),
        ),
        Subject("account", name, burst=50, interval_seconds=120),
    )


def own(tenant_id: str, user_id: str) -> Subject:
    """What someone who is signed in, or holds their token, may guess at: counted apart from signing in."""
    return Subject("own", f"{tenant_id}/{user_id}", burst=5, interval_seconds=60)


async def count_try(conn: Connection, tries: Tries) -> None:
    """Counts a try as wrong until it is known better; `conn` acts as nobody's door and commits at once.

    Raises `TooManyTries` where a subject has to wait; nothing is counted then.
    """
    under_attack = tries.account is not None and await _is_under_attack(conn, tries.account)
    for number, subject in enumerate(tries.refusing):
        await count(conn, subject, burst=1 if under_attack and number == 0 else subject.burst)


async def count(conn: Connection, subject: Subject, *, burst: int | None = None) -> None:
    """Counts a try against one subject; raises `TooManyTries`."""
    counted = await conn.execute(
        "insert into sign_in_tries as t (tenant_id, subject_hash, paid_until) "
        "values (%(nobody)s, %(hash)s, clock_timestamp() + make_interval(secs => %(interval)s)) "
        "on conflict (tenant_id, subject_hash) do update set "
        "    paid_until = greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        # the clock's time, not the transaction's: it may have waited for the row
        "where greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        "    <= clock_timestamp() + make_interval(secs => %(most)s) returning 1",
        _values(subject, burst),
    )
    if await counted.fetchone() is None:
        raise TooManyTries(subject, await _seconds_to_wait(conn, subject, burst))


async def take_back(conn: Connection, tries: Tries) -> None:
    """Takes a try back that was no guess: it came with the right password."""
    for subject in (*tries.refusing, *((tries.account,) if tries.account else ())):
        await conn.execute(
            "update sign_in_tries set paid_until = paid_until - make_interval(secs => %(interval)s) "
            "where subject_hash = %(hash)s",
            _values(subject),
        )


async def forget(conn: Connection, subject: Subject) -> None:
    """Begins to count from nought: the person has shown who they are."""
    await conn.execute("delete from sign_in_tries where subject_hash = %s", (subject.hash,))


async def is_to_be_audited(conn: Connection, subject: Subject) -> bool:
    """Whether the log of acts is to be told that the subject was refused: once a quarter of an hour."""
    noted = await conn.execute(
        "update sign_in_tries set audited_at = now() "
        "where subject_hash = %s and audited_at < now() - %s::interval returning 1",
        (subject.hash, _AUDITED_EVERY),
    )
    return await noted.fetchone() is not None


async def forget_paid(database: Database) -> None:
    """Forgets what waits for nothing any more, without waiting for a row that a try holds."""
    async with database.acting_as(door()) as conn:
        await conn.execute(
            "delete from sign_in_tries where subject_hash = any (array(select subject_hash from sign_in_tries "
            "where paid_until < now() and audited_at < now() - %s::interval for update skip locked))",
            (_AUDITED_EVERY,),
        )


async def forget_paid_for_ever(database: Database) -> None:
    """Until cancelled: forgets what is paid off, every ten minutes."""
    while True:
        try:
            await forget_paid(database)
        except WriteCareError as error:
            _log.warning("wrong tries could not be forgotten", problem=error.slug)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _is_under_attack(conn: Connection, account: Subject) -> bool:
    """Counts the try against the account, and whether its free ones are used up; never further ahead than one more."""
    counted = await conn.execute(
        "insert into sign_in_tries as t (tenant_id, subject_hash, paid_until) "
        "values (%(nobody)s, %(hash)s, clock_timestamp() + make_interval(secs => %(interval)s)) "
        "on conflict (tenant_id, subject_hash) do update set paid_until = least("
        "    greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s), "
        "    clock_timestamp() + make_interval(secs => %(most)s + %(interval)s)) "
        "returning paid_until > clock_timestamp() + make_interval(secs => %(most)s) as attacked",
        _values(account),
    )
    row = await counted.fetchone()
    return row is not None and bool(row["attacked"])


async def _seconds_to_wait(conn: Connection, subject: Subject, burst: int | None) -> int:
    row = await (
        await conn.execute(
            "select extract(epoch from paid_until - clock_timestamp())::float8 + %(interval)s - %(most)s as seconds "
            "from sign_in_tries where subject_hash = %(hash)s",
            _values(subject, burst),
        )
    ).fetchone()
    return 1 if row is None else max(1, math.ceil(row["seconds"]))


def _values(subject: Subject, burst: int | None = None) -> dict[str, object]:
    interval = float(subject.interval_seconds)
    most = interval * (subject.burst if burst is None else burst)
    return {"nobody": NOBODY, "hash": subject.hash, "interval": interval, "most": most}
