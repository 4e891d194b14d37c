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

from comms.kernel.access.system_actor import NIL_UUID, system_actor
from comms.kernel.database import Connection, Database
from comms.web.rate_limits.client_addresses import network_of
from models.contract.errors import Kind, WriteCareError

_AUDITED_EVERY: Final = "15 minutes"
_PAUSE_SECONDS: Final = 600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ThrottleKey:
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


class TooManyAttempts(WriteCareError):
    """429 (`too-many-requests`); remembers which subject has to wait."""

    def __init__(self, key: ThrottleKey, seconds: int) -> None:
        detail = "Too many tries were wrong: wait, then try again."
        super().__init__(Kind.REFUSED, "too-many-requests", detail, seconds)
        self.key = key


@dataclass(frozen=True)
class ThrottleKeys:
    """The subjects that one try at signing in is counted against."""

    enforced: tuple[ThrottleKey, ...]
    account: ThrottleKey | None = None  # of unknown browsers: refuses nobody, makes `refusing[0]` stricter


def throttle_keys_of(tenant: str, user: str, address: str | None, browser: str | None) -> ThrottleKeys:
    """Of an account by its slugs, from the address; `browser`: the nonce of a browser that the person is known from."""
    name = f"{tenant}/{user}"
    if browser is not None:
        return ThrottleKeys((ThrottleKey("known_browser", f"{name}/{browser}", burst=10, interval_seconds=120),))
    network = network_of(address)
    return ThrottleKeys(
        (
            ThrottleKey("account_from_address", f"{name}/{network}", burst=10, interval_seconds=120),
            # a home of forty people behind one address
            ThrottleKey("address", network, burst=100, interval_seconds=6),
        ),
        ThrottleKey("account", name, burst=50, interval_seconds=120),
    )


def own_account_key(tenant_id: str, user_id: str) -> ThrottleKey:
    """What someone who is signed in, or holds their token, may guess at: counted apart from signing in."""
    return ThrottleKey("own", f"{tenant_id}/{user_id}", burst=5, interval_seconds=60)


async def count_attempt(conn: Connection, throttle_keys: ThrottleKeys) -> None:
    """Counts a try as wrong until it is known better; `conn` acts as nobody's door and commits at once.

    Raises `TooManyAttempts` where a subject has to wait; nothing is counted then.
    """
    under_attack = throttle_keys.account is not None and await _is_under_attack(conn, throttle_keys.account)
    for number, key in enumerate(throttle_keys.enforced):
        await count_against(conn, key, burst=1 if under_attack and number == 0 else key.burst)


async def count_against(conn: Connection, key: ThrottleKey, *, burst: int | None = None) -> None:
    """Counts a try against one subject; raises `TooManyAttempts`."""
    counted = await conn.execute(
        "insert into sign_in_tries as t (tenant_id, subject_hash, paid_until) "
        "values (%(nobody)s, %(hash)s, clock_timestamp() + make_interval(secs => %(interval)s)) "
        "on conflict (tenant_id, subject_hash) do update set "
        "    paid_until = greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        # the clock's time, not the transaction's: it may have waited for the row
        "where greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        "    <= clock_timestamp() + make_interval(secs => %(most)s) returning 1",
        _values(key, burst),
    )
    if await counted.fetchone() is None:
        raise TooManyAttempts(key, await _seconds_to_wait(conn, key, burst))


async def refund_attempt(conn: Connection, throttle_keys: ThrottleKeys) -> None:
    """Takes a try back that was no guess: it came with the right password."""
    for key in (*throttle_keys.enforced, *((throttle_keys.account,) if throttle_keys.account else ())):
        await conn.execute(
            "update sign_in_tries set paid_until = paid_until - make_interval(secs => %(interval)s) "
            "where subject_hash = %(hash)s",
            _values(key),
        )


async def reset_count(conn: Connection, key: ThrottleKey) -> None:
    """Begins to count from nought: the person has shown who they are."""
    await conn.execute("delete from sign_in_tries where subject_hash = %s", (key.hash,))


async def claim_audit_entry(conn: Connection, key: ThrottleKey) -> bool:
    """Whether the log of acts is to be told that the subject was refused: once a quarter of an hour."""
    noted = await conn.execute(
        "update sign_in_tries set audited_at = now() "
        "where subject_hash = %s and audited_at < now() - %s::interval returning 1",
        (key.hash, _AUDITED_EVERY),
    )
    return await noted.fetchone() is not None


async def delete_expired_counts(database: Database) -> None:
    """Forgets what waits for nothing any more, without waiting for a row that a try holds."""
    async with database.acting_as(system_actor()) as conn:
        await conn.execute(
            "delete from sign_in_tries where subject_hash = any (array(select subject_hash from sign_in_tries "
            "where paid_until < now() and audited_at < now() - %s::interval for update skip locked))",
            (_AUDITED_EVERY,),
        )


async def delete_expired_counts_forever(database: Database) -> None:
    """Until cancelled: forgets what is paid off, every ten minutes."""
    while True:
        try:
            await delete_expired_counts(database)
        except WriteCareError as error:
            _log.warning("wrong tries could not be forgotten", problem=error.slug)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _is_under_attack(conn: Connection, account: ThrottleKey) -> bool:
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


async def _seconds_to_wait(conn: Connection, key: ThrottleKey, burst: int | None) -> int:
    row = await (
        await conn.execute(
            "select extract(epoch from paid_until - clock_timestamp())::float8 + %(interval)s - %(most)s as seconds "
            "from sign_in_tries where subject_hash = %(hash)s",
            _values(key, burst),
        )
    ).fetchone()
    return 1 if row is None else max(1, math.ceil(row["seconds"]))


def _values(key: ThrottleKey, burst: int | None = None) -> dict[str, object]:
    interval = float(key.interval_seconds)
    most = interval * (key.burst if burst is None else burst)
    return {"nobody": NIL_UUID, "hash": key.hash, "interval": interval, "most": most}
