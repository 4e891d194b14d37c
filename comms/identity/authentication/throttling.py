"""Limits wrong sign-in attempts by delays; it never locks an account (docs/decisions/0035).

An attempt from an unknown browser counts against the account from that address, and against the address. A number of
attempts is free; then one per interval is allowed, and others get a 429 with Retry-After. A browser from which the
person has signed in has its own count, so that attempts of others never delay it. If an account gets many attempts from
everywhere, each further address still has one free attempt.

An attempt is counted before anything is checked, so that a hundred concurrent attempts count as a hundred. An attempt
with the right password is refunded. Accounts that do not exist are counted too, so that the answers are the same.
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
    """One counter: `burst` attempts are free, then one per `interval_seconds`."""

    kind: Literal["account_from_address", "address", "account", "known_browser", "own"]
    name: str
    burst: int
    interval_seconds: float

    @property
    def hash(self) -> bytes:
        """The key of the counter in the database."""
        return hashlib.sha256(f"{self.kind}:{self.name}".encode()).digest()

    def __repr__(self) -> str:
        return f"ThrottleKey({self.kind})"


class TooManyAttempts(WriteCareError):
    """429 (`too-many-requests`), with the throttle key that has to wait."""

    def __init__(self, key: ThrottleKey, seconds: int) -> None:
        detail = "Too many wrong attempts: wait, then try again."
        super().__init__(Kind.REFUSED, "too-many-requests", detail, seconds)
        self.key = key


@dataclass(frozen=True)
class ThrottleKeys:
    """The throttle keys against which one sign-in attempt counts."""

    enforced: tuple[ThrottleKey, ...]
    account: ThrottleKey | None = None  # for unknown browsers: refuses nothing, but makes `enforced[0]` stricter


def throttle_keys_of(tenant: str, user: str, address: str | None, browser: str | None) -> ThrottleKeys:
    """Returns the keys for an account (by its slugs) and an address. `browser` is the id of a known browser, or
    None."""
    name = f"{tenant}/{user}"
    if browser is not None:
        return ThrottleKeys((ThrottleKey("known_browser", f"{name}/{browser}", burst=10, interval_seconds=120),))
    network = network_of(address)
    return ThrottleKeys(
        (
            ThrottleKey("account_from_address", f"{name}/{network}", burst=10, interval_seconds=120),
            # allows for a home where forty people share one address
            ThrottleKey("address", network, burst=100, interval_seconds=6),
        ),
        ThrottleKey("account", name, burst=50, interval_seconds=120),
    )


def own_account_key(tenant_id: str, user_id: str) -> ThrottleKey:
    """The key for attempts of a signed-in person (or a thief of their token) on their own account; separate from
    sign-in."""
    return ThrottleKey("own", f"{tenant_id}/{user_id}", burst=5, interval_seconds=60)


async def count_attempt(conn: Connection, throttle_keys: ThrottleKeys) -> None:
    """Counts an attempt as wrong until it is refunded. `conn` must act as the system actor without a tenant and commit
    at once.

    Raises `TooManyAttempts` if a key has to wait; then nothing is counted.
    """
    under_attack = throttle_keys.account is not None and await _is_under_attack(conn, throttle_keys.account)
    for number, key in enumerate(throttle_keys.enforced):
        await count_against(conn, key, burst=1 if under_attack and number == 0 else key.burst)


async def count_against(conn: Connection, key: ThrottleKey, *, burst: int | None = None) -> None:
    """Counts an attempt against one key; raises `TooManyAttempts`."""
    counted = await conn.execute(
        "insert into sign_in_tries as t (tenant_id, subject_hash, paid_until) "
        "values (%(nobody)s, %(hash)s, clock_timestamp() + make_interval(secs => %(interval)s)) "
        "on conflict (tenant_id, subject_hash) do update set "
        "    paid_until = greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        # clock_timestamp(), not now(): the statement may have waited for the row lock
        "where greatest(t.paid_until, clock_timestamp()) + make_interval(secs => %(interval)s) "
        "    <= clock_timestamp() + make_interval(secs => %(most)s) returning 1",
        _values(key, burst),
    )
    if await counted.fetchone() is None:
        raise TooManyAttempts(key, await _seconds_to_wait(conn, key, burst))


async def refund_attempt(conn: Connection, throttle_keys: ThrottleKeys) -> None:
    """Removes an attempt that was no guess: it had the right password."""
    for key in (*throttle_keys.enforced, *((throttle_keys.account,) if throttle_keys.account else ())):
        await conn.execute(
            "update sign_in_tries set paid_until = paid_until - make_interval(secs => %(interval)s) "
            "where subject_hash = %(hash)s",
            _values(key),
        )


async def reset_count(conn: Connection, key: ThrottleKey) -> None:
    """Deletes the counter: the person has proved who they are."""
    await conn.execute("delete from sign_in_tries where subject_hash = %s", (key.hash,))


async def claim_audit_entry(conn: Connection, key: ThrottleKey) -> bool:
    """Returns whether to write an audit entry that this key was throttled: at most every 15 minutes."""
    noted = await conn.execute(
        "update sign_in_tries set audited_at = now() "
        "where subject_hash = %s and audited_at < now() - %s::interval returning 1",
        (key.hash, _AUDITED_EVERY),
    )
    return await noted.fetchone() is not None


async def delete_expired_counts(database: Database) -> None:
    """Deletes counters that delay nothing any more. Skips rows that another transaction has locked."""
    async with database.acting_as(system_actor()) as conn:
        await conn.execute(
            "delete from sign_in_tries where subject_hash = any (array(select subject_hash from sign_in_tries "
            "where paid_until < now() and audited_at < now() - %s::interval for update skip locked))",
            (_AUDITED_EVERY,),
        )


async def delete_expired_counts_forever(database: Database) -> None:
    """Deletes expired counters every ten minutes. Runs until it is cancelled."""
    while True:
        try:
            await delete_expired_counts(database)
        except WriteCareError as error:
            _log.warning("expired throttle counters could not be deleted", problem=error.slug)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _is_under_attack(conn: Connection, account: ThrottleKey) -> bool:
    """Counts the attempt against the account, at most one beyond its burst; returns whether the burst is used up."""
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
