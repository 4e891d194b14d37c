"""The addresses that links in stored files may have. Used only in the confined child."""

import re
from typing import Final

_MAX_CHARACTERS: Final = 2_000
# A web page or an e-mail address in printable ASCII: no file, network share, script, or user name that hides the host.
_ALLOWED: Final = re.compile(
    r"(?i)(https?://[a-z0-9.-]+(:[0-9]{1,5})?([/?#][!-~]*)?|mailto:[a-z0-9._%+'-]+@[a-z0-9.-]+)"
)


def allowed_address(written: str | None) -> str | None:
    """Returns the address if it is allowed, else None. The server does not fetch it."""
    address = (written or "").strip()
    whole = len(address) <= _MAX_CHARACTERS and _ALLOWED.fullmatch(address) is not None
    return address if whole and not set(address) & set('\\"<>') else None
