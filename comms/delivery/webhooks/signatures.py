"""Signs webhook messages: the Standard Webhooks specification with HMAC-SHA256 (`v1`).

While an older secret is valid, both sign, so that the receiver can change to the new one when it wants.
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
    """Returns a new random signing key."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(key: bytes) -> str:
    """Returns the key in the form that the receiver gets."""
    return _PREFIX + base64.b64encode(key).decode()


def signed_headers(event_id: UUID, timestamp: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """Returns the headers that sign `body`: the event id (the same at every attempt), the time and one signature for
    each key.
    """
    content = f"{event_id}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
