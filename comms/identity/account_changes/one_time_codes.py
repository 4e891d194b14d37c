"""One-time codes with which a person sets their first or next password.

A code has two halves of 80 random bits each. If e-mail is configured, the whole code is sent to the person. Otherwise
the requester of the reset sees one half, and the second person who approves it sees the other. Each hands over their
half, and neither can use the code without the other (split knowledge, docs/decisions/0034). The database stores only
hashes.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from comms.identity.account_changes.queries import WAITING_HOURS
from comms.kernel.database import Actor, Connection
from models.contract.errors import Kind, WriteCareError, conflict

_HALF_BYTES: Final = 10
_HALF_LETTERS: Final = 16
_GAPS: Final = re.compile(r"[\s-]+")


@dataclass(frozen=True)
class Code:
    """Both halves, as they are shown."""

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first}-{self.second}"

    def __repr__(self) -> str:
        return "Code()"


async def make_code(conn: Connection, owner: Actor) -> Code:
    """Creates a code that is valid at once and replaces any previous one. `conn` must act as the system actor."""
    code = Code(_new_half(), _new_half())
    await _save_hashes(conn, owner, _hash(code.first), _hash(code.second))
    return code


async def make_first_half(conn: Connection, owner: Actor) -> str:
    """Creates the requester's half. It cannot be used before the other half exists. `conn` must act as the system
    actor."""
    half = _new_half()
    await _save_hashes(conn, owner, _hash(half), None)
    return half


async def make_second_half(conn: Connection, owner: Actor) -> str:
    """Creates the approver's half; raises a conflict (`code-replaced`) if the first half no longer exists."""
    half = _new_half()
    completed = await conn.execute(
        "update enrolments set second_hash = %s, expires_at = now() + make_interval(hours => %s) "
        "where user_id = %s and second_hash is null returning 1",
        (_hash(half), WAITING_HOURS, owner.user_id),
    )
    if await completed.fetchone() is None:
        raise conflict("code-replaced", "A newer code has replaced this one: request the reset again.")
    return half


async def delete_code(conn: Connection, user_id: UUID) -> None:
    """Deletes the person's code. `conn` must act as the system actor."""
    await conn.execute("delete from enrolments where user_id = %s", (user_id,))


async def is_valid_code(conn: Connection, user_id: UUID, code: str) -> bool:
    """Returns whether the code is valid for this user, without consuming it. `conn` must act as the system actor."""
    halves = _halves(code)
    found = await conn.execute(
        "select e.first_hash, e.second_hash from enrolments e join users u on u.tenant_id = e.tenant_id "
        "and u.id = e.user_id where e.user_id = %s and e.second_hash is not null and e.expires_at > now() and u.active",
        (user_id,),
    )
    row = await found.fetchone()
    if halves is None or row is None:
        return False
    sent, kept = [_hash(half) for half in halves], [bytes(row["first_hash"]), bytes(row["second_hash"])]
    # either half may come first: the two people who hand them over do not know the order
    return _equal_hashes(sent, kept) or _equal_hashes(sent[::-1], kept)


async def redeem_code(conn: Connection, user_id: UUID, code: str) -> None:
    """Consumes the code; raises `unauthenticated` (`reset-invalid`). `conn` must act as the system actor."""
    await conn.execute("select 1 from enrolments where user_id = %s for update", (user_id,))
    if not await is_valid_code(conn, user_id, code):
        raise invalid_code()
    await delete_code(conn, user_id)


def invalid_code() -> WriteCareError:
    """The error for a code that is wrong, expired or used, and for an unknown user or tenant."""
    return WriteCareError(
        Kind.UNAUTHENTICATED, "reset-invalid", "This code is invalid or has expired: ask for a new one."
    )


async def _save_hashes(conn: Connection, owner: Actor, first: bytes, second: bytes | None) -> None:
    await conn.execute(
        "insert into enrolments (tenant_id, user_id, first_hash, second_hash, expires_at) "
        "values (%s, %s, %s, %s, now() + make_interval(hours => %s)) on conflict (tenant_id, user_id) do update "
        "set first_hash = excluded.first_hash, second_hash = excluded.second_hash, expires_at = excluded.expires_at",
        (owner.tenant_id, owner.user_id, first, second, WAITING_HOURS),
    )


def _equal_hashes(sent: list[bytes], kept: list[bytes]) -> bool:
    return hmac.compare_digest(b"".join(sent), b"".join(kept))


def _halves(code: str) -> tuple[str, str] | None:
    letters = _GAPS.sub("", code).lower()
    if len(letters) != 2 * _HALF_LETTERS:
        return None
    return letters[:_HALF_LETTERS], letters[_HALF_LETTERS:]


def _new_half() -> str:
    letters = base64.b32encode(secrets.token_bytes(_HALF_BYTES)).decode().lower()
    return "-".join(letters[at : at + 4] for at in range(0, _HALF_LETTERS, 4))


def _hash(half: str) -> bytes:
    return hashlib.sha256(_GAPS.sub("", half).encode()).digest()  # 80 random bits need no slow hash
