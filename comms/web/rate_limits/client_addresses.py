"""Where a request comes from: the peer's address, or what a proxy of ours says in its place.

Only what a trusted proxy wrote is believed. Each proxy adds the address that it was called from at the right end, so
the list is read from the right: the first address that is no trusted proxy's is the caller's. The caller may have
written what stands left of it.
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
_CUSTOMER_BITS: Final = 64  # what one customer has of IPv6 (RFC 6177)


class ClientAddresses:
    """ASGI: puts the caller's address in the place of a trusted proxy's, for requests and WebSockets alike."""

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
    """The caller's address: the peer's where it is no proxy of ours, else the last hop that is none."""
    if not _is_within(peer, proxies):
        return peer
    known = peer
    for hop in reversed(hops[-_MOST_HOPS:]):
        address = _address(hop)
        if address is None:
            return known  # a proxy wrote no address, or the caller wrote nonsense: the last one that is certain
        known = address
        if not _is_within(address, proxies):
            return address
    return known


def network_of(address: str | None) -> str:
    """What is counted as one caller: an IPv4 address, or the /64 that a customer has of IPv6."""
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
    """The address of a hop, without port and brackets; None where it is none ('unknown', '_hidden', nonsense)."""
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
