"""Device cookies: signed cookies that mark browsers from which a person has signed in (OWASP device-cookie protocol).

A device cookie does not sign anybody in. It only prevents wrong attempts of others from slowing the person down
(`comms/identity/authentication/throttling.py`). A browser that several people share has one cookie for each of them.
"""

import base64
import hashlib
import hmac
import secrets
import time
from typing import Final

from comms.web.context import AppContext

_NONCE_BYTES: Final = 12
_KEPT_SECONDS: Final = 365 * 86400
_PURPOSE: Final = "known-browser"


def browser_cookie_name(tenant: str, user: str) -> str:
    """Returns the name of the person's cookie. It is a hash, so it does not show who they are."""
    return f"wcc_browser_{hashlib.sha256(f'{tenant}/{user}'.encode()).hexdigest()[:16]}"


def new_browser_cookie(ctx: AppContext, tenant: str, user: str) -> tuple[str, int]:
    """Returns the value of a new cookie and its lifetime in seconds."""
    nonce = base64.urlsafe_b64encode(secrets.token_bytes(_NONCE_BYTES)).decode()
    until = str(int(time.time()) + _KEPT_SECONDS)
    return f"{nonce}.{until}.{_signature(ctx, tenant, user, nonce, until)}", _KEPT_SECONDS


def known_browser_id(ctx: AppContext, tenant: str, user: str, cookie: str | None) -> str | None:
    """Returns the browser's id if the cookie is genuine, belongs to this person and has not expired; else None."""
    try:
        nonce, until, signature = (cookie or "").split(".")
        good = hmac.compare_digest(signature.encode(), _signature(ctx, tenant, user, nonce, until).encode())
        return nonce if good and int(until) > time.time() else None
    except ValueError:
        return None


def _signature(ctx: AppContext, tenant: str, user: str, nonce: str, until: str) -> str:
    signed = "\0".join((tenant, user, nonce, until)).encode()
    digest = hmac.digest(ctx.issuer.secret_for(_PURPOSE), signed, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
