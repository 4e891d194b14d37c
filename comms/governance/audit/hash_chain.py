"""The hash chain: computes the next hash from an audit entry and the hash before it. It uses no database.

    hash(n) = SHA-256("wcc-audit-1" | hash(n - 1) | n | every field of the entry)

Each part is preceded by its length in eight bytes, so that two different entries never give the same bytes; null has a
length that no text has. The hash before the first entry is all zeros. The tenant is a field, so the chains of two
tenants differ.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

GENESIS: Final = bytes(32)
_FORMAT: Final = b"wcc-audit-1"
_NULL: Final = b"\xff" * 8

# Every column of `audit_log` and the SQL of its hashed text, which does not depend on session settings.
FIELDS: Final[Mapping[str, str]] = {
    "tenant_id": "tenant_id::text",
    "id": "id::text",
    "actor_id": "actor_id::text",
    "actor_role": "actor_role",
    "action": "action",
    "object_type": "object_type",
    "object_id": "object_id::text",
    "details": "details::text",
    "created_at": "(extract(epoch from created_at) * 1000000)::bigint::text",
    "request_id": "request_id::text",
    "address": "address::text",
    "reason": "reason",
}

# The audit log with all fields as text, each under its name and an underscore.
ACTS_AS_TEXT: Final = (
    f"(select tenant_id, id, created_at, {', '.join(f'{text} as {name}_' for name, text in FIELDS.items())} "  # noqa: S608
    "from audit_log)"
)


def next_hash(before: bytes, number: int, act: Mapping[str, Any]) -> bytes:
    """Returns the hash of the entry (a row of `ACTS_AS_TEXT`) at this number of the chain: 32 bytes."""
    digest = hashlib.sha256()
    for part in (_FORMAT, before, str(number).encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    for name in FIELDS:
        text = act[f"{name}_"]
        if text is None:
            digest.update(_NULL)
        else:
            part = text.encode()
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
