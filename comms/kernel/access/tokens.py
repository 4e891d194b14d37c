"""Signed tokens: they identify the caller to the API and to the model endpoints.

A token is a JWT signed with Ed25519 (RFC 8037, RFC 9864). The issuer's private key stays in the data folder. A
verifier needs only the public key, so that the model endpoints can check tokens without a secret.
"""

import hmac
import json
import os
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet, OKPKey

from comms.kernel.access.roles import ROLES
from comms.kernel.database import Actor
from models.contract.errors import Kind, WriteCareError, unavailable

_ALGORITHM: Final = "Ed25519"
_PRIVATE: Final = "issuer.json"
_PUBLIC: Final = "issuer.public.json"
_LEEWAY_SECONDS: Final = 5  # the clocks of two machines may differ
_INVITATION: Final = (
    "guest-invitation"  # purpose of a signed link: a link is not valid as a token, nor a token as a link
)


class Verifier:
    """Checks tokens with the issuer's public keys; holds no secret."""

    def __init__(self, public_keys: dict[str, Any], issuer: str) -> None:
        """`public_keys`: a JWK set (RFC 7517)."""
        self._keys = KeySet.import_key_set(public_keys)  # type: ignore[arg-type]
        self._claims = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            sub={"essential": True}, exp={"essential": True},
            tenant={"essential": True}, role={"essential": True, "values": [str(role) for role in ROLES]},
        )  # fmt: skip

        self._invitations = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer}, purpose={"essential": True, "value": _INVITATION},
            jti={"essential": True}, exp={"essential": True}, tenant={"essential": True},
        )  # fmt: skip

    @classmethod
    def open(cls, keys_dir: Path, issuer: str) -> "Verifier":
        """A verifier for the built-in issuer with its keys in `keys_dir`; raises `unavailable` if there are none."""
        file = keys_dir / _PUBLIC
        if not file.exists():
            raise unavailable(
                "issuer-missing", "This data folder has no token issuer yet: start `up`, which creates it."
            )
        return cls(json.loads(file.read_text()), issuer)

    def verify(self, token: str | None) -> Actor:
        """The actor of the token; raises `unauthenticated` (`token-missing`, `token-invalid`, `token-expired`)."""
        if not token:
            raise _unauthenticated("token-missing", "Sign in: send `Authorization: Bearer <token>`.")
        try:
            claims = jwt.decode(token, self._keys, algorithms=[_ALGORITHM]).claims
            self._claims.validate(claims)
            sign_in, scope, session = (claims.get(name) for name in ("sid", "scope", "session"))
            return Actor(
                UUID(claims["tenant"]), UUID(claims["sub"]), str(claims["role"]),
                sign_in_id=None if sign_in is None else UUID(sign_in),
                scopes=None if scope is None else frozenset(scope.split()),
                session_id=None if session is None else UUID(session),
            )  # fmt: skip
        except ExpiredTokenError:
            raise _unauthenticated("token-expired", "This token has expired: sign in again for a new one.") from None
        except (JoseError, ValueError, TypeError, AttributeError, UnicodeError):
            raise _unauthenticated("token-invalid", "This token is invalid: sign in again.") from None

    def verify_invitation(self, link: str) -> tuple[UUID, UUID]:
        """The tenant id and the invitation id in a signed link.

        Raises `unauthenticated` (`invitation-invalid`): the same for an expired link as for a forged one.
        """
        try:
            claims = jwt.decode(link, self._keys, algorithms=[_ALGORITHM]).claims
            self._invitations.validate(claims)
            return UUID(claims["tenant"]), UUID(claims["jti"])
        except (JoseError, ValueError, TypeError, AttributeError, UnicodeError):
            raise invitation_invalid() from None


class Issuer:
    """Signs tokens on one machine. Its key is created at the first start and never leaves the data folder."""

    def __init__(self, key: OKPKey, issuer: str) -> None:
        self._key = key
        self._issuer = issuer

    @classmethod
    def open(cls, keys_dir: Path, issuer: str) -> "Issuer":
        """The issuer of this data folder; creates it if it is missing. Safe when several processes start at once."""
        private = keys_dir / _PRIVATE
        if not private.exists():
            _make_key(keys_dir)
        key = OKPKey.import_key(json.loads(private.read_text()))
        _write_atomically(keys_dir / _PUBLIC, json.dumps({"keys": [key.as_dict(private=False)]}), mode=0o644)
        return cls(key, issuer)

    def sign(self, actor: Actor, lifetime: float) -> str:
        """A token for `actor` that is valid for `lifetime` seconds."""
        now = int(time.time())
        claims = {
            "iss": self._issuer, "sub": str(actor.user_id), "tenant": str(actor.tenant_id), "role": actor.role,
            "iat": now, "exp": int(now + lifetime), "jti": str(uuid.uuid4()),
        }  # fmt: skip
        if actor.sign_in_id is not None:
            claims["sid"] = str(actor.sign_in_id)
        if actor.scopes is not None:
            claims["scope"] = " ".join(sorted(actor.scopes))
        if actor.session_id is not None:
            claims["session"] = str(actor.session_id)
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid}, claims, self._key, algorithms=[_ALGORITHM])

    def sign_invitation(self, tenant_id: UUID, invitation_id: UUID, session_id: UUID, expires_at: datetime) -> str:
        """The signed part of a guest's link: valid for one session, until it expires or the invitation is withdrawn."""
        claims = {
            "iss": self._issuer, "purpose": _INVITATION, "tenant": str(tenant_id), "jti": str(invitation_id),
            "session": str(session_id), "iat": int(time.time()), "exp": int(expires_at.timestamp()),
        }  # fmt: skip
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid}, claims, self._key, algorithms=[_ALGORITHM])

    def secret_for(self, purpose: str) -> bytes:
        """A secret key for one purpose, derived from the private key: the same in all processes of the installation."""
        private = str(self._key.as_dict(private=True)["d"]).encode()
        return hmac.digest(private, f"writecare:{purpose}".encode(), "sha256")

    def public_keys(self) -> dict[str, Any]:
        """The JWK set with which a `Verifier` checks this issuer's tokens."""
        return {"keys": [self._key.as_dict(private=False)]}


def _make_key(keys_dir: Path) -> None:
    keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = OKPKey.generate_key(
        "Ed25519", parameters={"alg": _ALGORITHM, "use": "sig", "kid": f"local-{time.time_ns():x}"}
    )
    fresh = _write_temporary(keys_dir / _PRIVATE, json.dumps(key.as_dict(private=True)), mode=0o600)
    try:
        os.link(fresh, keys_dir / _PRIVATE)  # unlike a rename, a link fails if another process has created the file
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _write_temporary(file: Path, text: str, *, mode: int) -> Path:
    fresh = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return fresh


def _write_atomically(file: Path, text: str, *, mode: int) -> None:
    if not file.exists() or file.read_text() != text:
        _write_temporary(file, text, mode=mode).rename(file)


def invitation_invalid() -> WriteCareError:
    """The error for a link that is invalid or has expired: the same for every reason."""
    return _unauthenticated("invitation-invalid", "This invitation is invalid or has expired: ask for a new link.")


def _unauthenticated(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.UNAUTHENTICATED, slug, detail)
