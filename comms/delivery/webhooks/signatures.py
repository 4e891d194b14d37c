"""How a webhook's message is signed: the Standard Webhooks specification, HMAC-SHA256 (`v1`).

While an older secret still stands both sign, so that a receiver can change to the new one at its own time.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final
from uuid import UUID

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_key() -> bytes:
    """A fresh signing key."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(key: bytes) -> str:
    """The key as its receiver is given it."""
    return _PREFIX + base64.b64encode(key).decode()


def signed_headers(event_id: UUID, timestamp: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers that vouch for `body`: the event's id (the same at every try), the time and a signature a key."""
    content = f"{event_id}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
