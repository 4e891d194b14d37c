"""Issues a short-lived access token and a refresh token that is replaced at each use (rotation).

A refresh token is `wcr.<tenant>.<sign-in>.<family>.<secret>`. The family stays the same; each use replaces the secret.
If a secret is used again after it was replaced, two parties hold the token, and one of them stole it: the whole sign-in
ends.

But a response can be lost, and two tabs can refresh at once. So for ten seconds, the previous secret gets the same new
secret again. The new secret is derived from the previous one with a salt, since only hashes are stored. So there is
never a third token. A thief who is that quick holds the same token as its owner and is detected at the next rotation
(ADR 0014).
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import Field

from comms.identity.second_factors import has_second_factor
from comms.identity.sign_ins.queries import SignInKind, end_sign_in, open_sign_in
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor, Connection
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError
from models.contract.records import Record

_RETRY_SECONDS: Final = 10.0
_PREFIX: Final = "wcr"


class Tokens(Record):
    """The tokens of a sign-in. A browser keeps the refresh token in a cookie that its scripts cannot read."""

    access_token: str = Field(repr=False)
    expires_in: int = Field(description="Seconds until the access token expires.")
    refresh_token: str | None = Field(repr=False, description="Null if it was set as a cookie.")
    refresh_expires_in: int = Field(description="Seconds until the refresh token expires, unless it is used.")
    second_factor_due: bool = Field(description="If true, the access token only permits setting up a second factor.")


@dataclass(frozen=True)
class _RefreshToken:
    """The parts of a refresh token."""

    tenant_id: UUID
    sign_in_id: UUID
    family: str
    secret: str

    def __str__(self) -> str:
        return f"{_PREFIX}.{self.tenant_id}.{self.sign_in_id}.{self.family}.{self.secret}"

    def __repr__(self) -> str:
        return f"_RefreshToken(sign_in_id={self.sign_in_id})"


async def start_sign_in(conn: Connection, ctx: AppContext, person: Actor, kind: SignInKind) -> Tokens:
    """Signs the person in and returns the tokens. `conn` must act as the system actor of the tenant for this person."""
    signed_in_actor = await open_sign_in(conn, person, kind, ctx.settings.sign_in_seconds_of(person.role))
    assert signed_in_actor.sign_in_id is not None
    token = _RefreshToken(person.tenant_id, signed_in_actor.sign_in_id, _new_secret(), _new_secret())
    await conn.execute(
        "insert into refresh_tokens (tenant_id, sign_in_id, family_hash, current_hash, expires_at) "
        "values (%s, %s, %s, %s, now() + make_interval(secs => %s))",
        (
            person.tenant_id, token.sign_in_id, _hash(token.family), _hash(token.secret),
            ctx.settings.idle_seconds_of(person.role),
        ),
    )  # fmt: skip
    return await _sign_tokens(conn, ctx, signed_in_actor, kind, token)


async def refresh(ctx: AppContext, sent: str) -> Tokens:
    """Returns new tokens that replace the previous ones; raises `unauthenticated` (`refresh-invalid`).

    Forged, expired, ended and reused tokens get the same answer. A reused token also ends its sign-in, with an audit
    entry.
    """
    token = _parse(sent)
    async with ctx.database.acting_as(system_actor(token.tenant_id)) as conn:
        row = await _lock_valid_token(conn, token)
        if row is None:
            rotated = None
        elif hmac.compare_digest(bytes(row["current_hash"]), _hash(token.secret)):
            rotated = await _rotate(conn, token, ctx.settings.idle_seconds_of(row["role"]))
        elif row["recent"] and hmac.compare_digest(bytes(row["former_hash"]), _hash(token.secret)):
            rotated = _successor(token, bytes(row["salt"]))
        else:
            rotated = None
            await end_sign_in(conn, system_actor(token.tenant_id), row["user_id"], token.sign_in_id, "refresh_reused")
        if rotated is not None:
            assert row is not None
            person = Actor(token.tenant_id, row["user_id"], row["role"], sign_in_id=token.sign_in_id)
            return await _sign_tokens(conn, ctx, person, row["kind"], rotated)
    raise _invalid_refresh_token()


async def _lock_valid_token(conn: Connection, token: _RefreshToken) -> DictRow | None:
    """Locks and returns the token's row if its sign-in is open, its owner's account is active and the family
    matches."""
    found = await conn.execute(
        "select s.user_id, s.role, s.kind, r.current_hash, r.former_hash, r.salt, "
        "r.former_hash is not null and r.turned_at > now() - make_interval(secs => %s) as recent "
        "from refresh_tokens r join sign_ins s on s.tenant_id = r.tenant_id and s.id = r.sign_in_id "
        "join users u on u.tenant_id = s.tenant_id and u.id = s.user_id "
        "where r.sign_in_id = %s and r.family_hash = %s and r.expires_at > now() and s.expires_at > now() "
        "and s.ended_at is null and u.active for update of r",
        (_RETRY_SECONDS, token.sign_in_id, _hash(token.family)),
    )
    return await found.fetchone()


async def _rotate(conn: Connection, token: _RefreshToken, idle_seconds: int) -> _RefreshToken:
    salt = secrets.token_bytes(32)
    rotated = _successor(token, salt)
    await conn.execute(
        "update refresh_tokens r set former_hash = current_hash, current_hash = %s, salt = %s, turned_at = now(), "
        "expires_at = least(now() + make_interval(secs => %s), s.expires_at) "
        "from sign_ins s where s.tenant_id = r.tenant_id and s.id = r.sign_in_id and r.sign_in_id = %s",
        (_hash(rotated.secret), salt, idle_seconds, token.sign_in_id),
    )
    await conn.execute("update sign_ins set last_seen_at = now() where id = %s", (token.sign_in_id,))
    return rotated


async def _sign_tokens(
    conn: Connection, ctx: AppContext, person: Actor, kind: SignInKind, token: _RefreshToken
) -> Tokens:
    settings = ctx.settings
    due = (
        # for single sign-on, comms/identity/single_sign_on/assurance.py has already checked the factors
        kind == "local" and person.role in settings.second_factor_roles and not await has_second_factor(conn, person)
    )
    scopes: frozenset[str] | None = frozenset() if due else None
    speaker = Actor(person.tenant_id, person.user_id, person.role, sign_in_id=person.sign_in_id, scopes=scopes)
    return Tokens(
        access_token=ctx.issuer.sign(speaker, settings.access_token_seconds),
        expires_in=settings.access_token_seconds, refresh_token=str(token),
        refresh_expires_in=settings.idle_seconds_of(person.role), second_factor_due=due,
    )  # fmt: skip


def _parse(sent: str) -> _RefreshToken:
    try:
        prefix, tenant, sign_in, family, secret = sent.split(".")
        if prefix != _PREFIX:
            raise _invalid_refresh_token()
        return _RefreshToken(UUID(tenant), UUID(sign_in), family, secret)
    except ValueError:
        raise _invalid_refresh_token() from None


def _successor(token: _RefreshToken, salt: bytes) -> _RefreshToken:
    secret = base64.urlsafe_b64encode(hmac.digest(salt, token.secret.encode(), "sha256")).rstrip(b"=").decode()
    return _RefreshToken(token.tenant_id, token.sign_in_id, token.family, secret)


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()  # 256 random bits need no slow hash


def _invalid_refresh_token() -> WriteCareError:
    return WriteCareError(
        Kind.UNAUTHENTICATED, "refresh-invalid", "This refresh token is invalid or has expired: sign in again."
    )
