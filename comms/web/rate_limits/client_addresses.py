"""Finds the address of the client: the peer's address, or the one that a trusted proxy reports.

Only what a trusted proxy wrote is used. Each proxy appends the address that called it, so the list is read from the
right: the first address that is not a trusted proxy is the client. The client itself may have written everything to the
left of it.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from comms.kernel.settings import ProxyHeader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)
_MOST_HOPS: Final = 20
_CUSTOMER_BITS: Final = 64  # the IPv6 prefix of one customer (RFC 6177)


class ClientAddresses:
    """ASGI middleware: replaces a trusted proxy's address with the client's, for requests and WebSockets."""

    def __init__(self, app: ASGIApp, *, proxies: Sequence[Network], header: ProxyHeader) -> None:
        self._app = app
        self._proxies = tuple(proxies)
        self._header = header.encode()
        self._forwarded = header == "forwarded"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies and scope["type"] in ("http", "websocket") and scope.get("client") is not None:
            host, port = scope["client"]
            said = b",".join(value for name, value in scope["headers"] if name == self._header).decode("latin-1")
            scope["client"] = (client_address(host, _hops(said, forwarded=self._forwarded), self._proxies), port)
        await self._app(scope, receive, send)


def client_address(peer: str, hops: Sequence[str], proxies: Sequence[Network]) -> str:
    """The client's address: the peer if it is not a trusted proxy, else the last hop that is not one."""
    if not _is_within(peer, proxies):
        return peer
    known = peer
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = _address(hop)
        if address is None:
            return known  # the hop is not an address: use the last one that is certain
        known = address
        if not _is_within(address, proxies):
            return address
    return known


def network_of(address: str | None) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64, which is one customer's prefix."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _CUSTOMER_BITS), strict=False))
    return str(found)


def _hops(said: str, *, forwarded: bool) -> list[str]:
    parts = [part.strip() for part in said.split(",") if part.strip()]
    if not forwarded:
        return parts
    found = [_FOR.search(part) for part in parts]
    return ["" if match is None else match[1].strip('"') for match in found]


def _address(hop: str) -> str | None:
    """The address of a hop, without port and brackets; None if it is not an address ('unknown', '_hidden' …)."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _is_within(address: str, networks: Iterable[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in network for network in networks)
