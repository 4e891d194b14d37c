"""Lock-out: after some failures each further one makes the account, and the address, wait longer.

An attempt is counted before anything is checked, so that a hundred at once are a hundred; what it turned out to be
is said afterwards. Accounts are counted whether they exist or not, in the same table: the answers are alike.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

from comms.database import Connection
from comms.identity.door import NOBODY
from models.errors import Kind, WriteCareError

_FORGOTTEN_AFTER: Final = "1 day"
_FIRST_PAUSE_SECONDS: Final = 30
_LONGEST_PAUSE_SECONDS: Final = 900


@dataclass(frozen=True)
class Subject:
    """What is counted: an account or an address; `allowance` failures cost nothing."""

    hash: bytes
    allowance: int


def account(tenant: str, user: str) -> Subject:
    """An account by its slugs, whether there is such a one or not."""
    return Subject(_hash(f"account:{tenant}/{user}"), allowance=5)


def address(host: str) -> Subject:
    """Where attempts come from: a whole home may share an address, so that more is let pass."""
    return Subject(_hash(f"address:{host}"), allowance=30)


async def count_attempt(conn: Connection, *subjects: Subject) -> None:
    """Counts an attempt as failed until it is known better; `conn` acts as nobody's door and commits at once.

    Raises 429 (`too-many-requests`) where one of the subjects has to wait; nothing is counted then.
    """
    await conn.execute("delete from failed_sign_ins where failed_at < now() - %s::interval", (_FORGOTTEN_AFTER,))
    for subject in subjects:
        counted = await conn.execute(
            "insert into failed_sign_ins as f (tenant_id, subject_hash, failures) values (%(nobody)s, %(hash)s, 1) "
            "on conflict (tenant_id, subject_hash) do update set failed_at = now(), failures = f.failures + 1, "
            "paused_until = case when f.failures < %(allowance)s then '-infinity' "
            "    else clock_timestamp() + make_interval(secs => "
            "        least(%(first)s * 2.0 ^ least(f.failures - %(allowance)s, 20), %(longest)s)) end "
            # the clock's time, not the transaction's: it may have waited for the row
            "where f.paused_until <= clock_timestamp() returning 1",
            {
                "nobody": NOBODY, "hash": subject.hash, "allowance": subject.allowance,
                "first": _FIRST_PAUSE_SECONDS, "longest": _LONGEST_PAUSE_SECONDS,
            },
        )  # fmt: skip
        if await counted.fetchone() is None:
            raise await _too_many(conn, subject)


async def forgive_attempt(conn: Connection, *subjects: Subject) -> None:
    """Takes an attempt back that was no guess: it came with the right password."""
    for subject in subjects:
        await conn.execute(
            "update failed_sign_ins set failures = greatest(failures - 1, 0), paused_until = '-infinity' "
            "where subject_hash = %s",
            (subject.hash,),
        )


async def forget_failures(conn: Connection, subject: Subject) -> None:
    """Begins to count from nought: the person has shown who they are."""
    await conn.execute("delete from failed_sign_ins where subject_hash = %s", (subject.hash,))


async def _too_many(conn: Connection, subject: Subject) -> WriteCareError:
    row = await (
        await conn.execute(
            "select extract(epoch from paused_until - clock_timestamp())::float8 as seconds from failed_sign_ins "
            "where subject_hash = %s",
            (subject.hash,),
        )
    ).fetchone()
    seconds = 1 if row is None else max(1, math.ceil(row["seconds"]))
    return WriteCareError(
        Kind.REFUSED, "too-many-requests", "Too many attempts have failed: wait, then try again.", seconds
    )


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
