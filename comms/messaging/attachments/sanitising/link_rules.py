"""The addresses that a link in a kept file may lead to. Used in the confined child alone."""

import re
from typing import Final

_MAX_CHARACTERS: Final = 2_000
# A web page or a mailbox, in printable ASCII: no file, no share, no script, no user name that hides the host.
_ALLOWED: Final = re.compile(
    r"(?i)(https?://[a-z0-9.-]+(:[0-9]{1,5})?([/?#][!-~]*)?|mailto:[a-z0-9._%+'-]+@[a-z0-9.-]+)"
)


def allowed_address(written: str | None) -> str | None:
    """The address where a link may lead to it, else None. Nothing is fetched: only who selects the link follows it."""
    address = (written or "").strip()
    whole = len(address) <= _MAX_CHARACTERS and _ALLOWED.fullmatch(address) is not None
    return address if whole and not set(address) & set('\\"<>') else None
