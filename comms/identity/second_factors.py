"""The second factor: one-time codes of an authenticator app (RFC 6238), and recovery codes if it is lost.

The key service wraps the authenticator's secret. A code is valid in its half minute and in the one before and after it,
and only once: the time step of the last accepted code is stored, and only a later step is accepted.
"""

import base64
import hashlib
import secrets
from typing import Final
from uuid import UUID

import pyotp
from pydantic import Field
from pyotp.exceptions import OTPVerificationError

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.key_service import KeyService, WrappedKey
from models.contract.errors import WriteCareError, conflict, invalid
from models.contract.records import Record

_ISSUER: Final = "WriteCareConnect"
_SECRET_BYTES: Final = 20  # RFC 4226, 4 R6
_STEPS_BESIDE: Final = 1  # the clocks of the two devices may differ
_RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 16  # OWASP ASVS 5.0.0, 6.5.2 and 11.5.1


class NewSecondFactor(Record):
    """The new secret, shown once. The authenticator app reads `otpauth_uri`, usually as a QR code."""

    otpauth_uri: str = Field(repr=False)


class RecoveryCodes(Record):
    """The recovery codes, shown once. Each works once instead of an authenticator code."""

    recovery_codes: tuple[str, ...] = Field(repr=False)


async def has_second_factor(conn: Connection, person: Actor) -> bool:
    """Returns whether the person must send a code to sign in."""
    found = await conn.execute(
        "select 1 from second_factors where user_id = %s and confirmed_at is not null", (person.user_id,)
    )
    return await found.fetchone() is not None


async def enrol_second_factor(conn: Connection, keys: KeyService, person: Actor) -> NewSecondFactor:
    """Creates a secret that replaces any previous one. A sign-in requires it only after a code has confirmed it."""
    secret = secrets.token_bytes(_SECRET_BYTES)
    wrapped = await keys.wrap(secret, _context(person))
    await conn.execute(
        "insert into second_factors (tenant_id, user_id, wrapped_secret, key_id) values (%s, %s, %s, %s) "
        "on conflict (tenant_id, user_id) do update set wrapped_secret = excluded.wrapped_secret, "
        "key_id = excluded.key_id, confirmed_at = null, last_step = 0, created_at = now()",
        (person.tenant_id, person.user_id, wrapped.wrapped, wrapped.key_id),
    )
    await record_act(conn, person, "second_factor.enrolled", ("user", person.user_id))
    row = await (await conn.execute("select slug from users where id = %s", (person.user_id,))).fetchone()
    assert row is not None, "the person who enrols is not visible"
    return NewSecondFactor(otpauth_uri=_totp(secret).provisioning_uri(name=row["slug"], issuer_name=_ISSUER))


async def confirm_second_factor(conn: Connection, keys: KeyService, person: Actor, code: str) -> RecoveryCodes:
    """Confirms the second factor, so that each sign-in requires a code. Raises a conflict
    (`second-factor-not-enrolled`), `invalid` (`code-wrong`)."""
    found = await conn.execute(
        "select 1 from second_factors where user_id = %s and confirmed_at is null for update", (person.user_id,)
    )
    if await found.fetchone() is None:
        raise conflict("second-factor-not-enrolled", "There is no second factor to confirm: enrol one first.")
    if not await _take_one_time_code(conn, keys, person, code):
        raise wrong_code()
    await conn.execute("update second_factors set confirmed_at = now() where user_id = %s", (person.user_id,))
    await conn.execute("delete from recovery_codes where user_id = %s", (person.user_id,))
    codes = tuple(_new_recovery_code() for _ in range(_RECOVERY_CODES))
    for recovery in codes:
        await conn.execute(
            "insert into recovery_codes (tenant_id, user_id, code_hash) values (%s, %s, %s)",
            (person.tenant_id, person.user_id, _hash(recovery)),
        )
    await record_act(conn, person, "second_factor.confirmed", ("user", person.user_id))
    return RecoveryCodes(recovery_codes=codes)


async def consume_code(conn: Connection, keys: KeyService, person: Actor, code: str) -> bool:
    """Returns whether the authenticator code or recovery code is valid, and consumes it."""
    if await _take_one_time_code(conn, keys, person, code):
        return True
    used = await conn.execute(
        "delete from recovery_codes where user_id = %s and code_hash = %s returning 1", (person.user_id, _hash(code))
    )
    if await used.fetchone() is None:
        return False
    await record_act(conn, person, "recovery_code.used", ("user", person.user_id))
    return True


async def remove_second_factor(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Removes a lost authenticator from an account: no code is required until the person enrols another one.

    `conn` must act as the system actor for `actor`, who may manage that account
    (`comms/identity/users/queries.read_managed_user`).
    """
    await conn.execute("delete from second_factors where user_id = %s", (user_id,))
    await conn.execute("delete from recovery_codes where user_id = %s", (user_id,))
    await record_act(conn, actor, "second_factor.removed", ("user", user_id))


async def _take_one_time_code(conn: Connection, keys: KeyService, person: Actor, code: str) -> bool:
    row = await (
        await conn.execute("select wrapped_secret, key_id from second_factors where user_id = %s", (person.user_id,))
    ).fetchone()
    if row is None:
        return False
    secret = await keys.unwrap(WrappedKey(row["key_id"], bytes(row["wrapped_secret"])), _context(person))
    try:
        step = _totp(secret).verify_and_get_timecode(code, valid_window=_STEPS_BESIDE)
    except OTPVerificationError:
        return False
    taken = await conn.execute(
        "update second_factors set last_step = %s where user_id = %s and last_step < %s returning 1",
        (step, person.user_id, step),
    )
    return await taken.fetchone() is not None


def wrong_code() -> WriteCareError:
    """The error for a code that is wrong, expired or already used."""
    return invalid("code-wrong", "This code is invalid or has expired: wait for the next one.")


def _totp(secret: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(base64.b32encode(secret).decode())


def _context(person: Actor) -> str:
    return f"second-factor:{person.tenant_id}/{person.user_id}"


def _new_recovery_code() -> str:
    letters = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().rstrip("=").lower()
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.strip().lower().encode()).digest()  # 128 random bits need no slow hash
