"""Checks the `Host` header of a request: a browser that reaches this server under a foreign host name is refused."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from comms.kernel.settings import Settings
from models.contract.errors import invalid

_HOST: Final = re.compile(r"(?P<name>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
# For a load balancer, which uses an address and not a name.
_ANY_HOST_PATHS: Final = frozenset({"/health"})


@dataclass(frozen=True)
class AllowedHosts:
    """The accepted host names; None accepts every well-formed one."""

    names: frozenset[str] | None

    @classmethod
    def from_settings(cls, settings: Settings) -> "AllowedHosts":
        """The names in the settings, else that of the public URL, plus this machine's own; without both, all names."""
        named = {name.lower() for name in settings.allowed_hosts}
        if not named and settings.public_url is not None:
            name = _name_of(urlsplit(settings.public_url).netloc.rpartition("@")[2])
            named = {name} if name is not None else set()
        return cls(frozenset(named) | _LOOPBACK if named else None)

    def refuse_unknown_host(self, scope: Scope) -> None:
        """Raises `invalid`: `host-malformed` (400), `host-unknown` (421)."""
        hosts = Headers(scope=scope).getlist("host")
        name = _name_of(hosts[0]) if len(hosts) == 1 else None
        if hosts and name is None:
            raise invalid(
                "host-malformed", "The Host header is malformed: send one host name or address, with or without a port."
            )
        if self.names is None or scope["path"] in _ANY_HOST_PATHS:
            return
        if name not in self.names:
            raise invalid(
                "host-unknown",
                "This host name is not accepted: use one in WRITECARE_ALLOWED_HOSTS, or add it there.",
            )


def _name_of(host: str) -> str | None:
    """The name or address without its port, in lower case; None if it is neither."""
    found = _HOST.fullmatch(host)
    if found is None:
        return None
    name = found["name"].lower()
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return None
    return name
