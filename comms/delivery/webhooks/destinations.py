"""Checks where a webhook may send: to the public internet over TLS, and to networks that the operator has named.

The host name is resolved once, all its addresses are checked, and the connection uses a checked address. So a name that
resolves differently a moment later (DNS rebinding) cannot redirect it.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from models.contract.errors import WriteCareError, invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS: Final = {"https": 443, "http": 80}
# All addresses that IANA has allocated for the public internet (RFC 4291); all other IPv6 ranges are special.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Special-purpose ranges that `is_global` accepts, or accepted in some version of Python. Some IPv6 ranges contain an
# IPv4 address: a gateway of the local network decides where they lead, so the IPv4 address does not matter.
_SPECIAL: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.31.196.0/24", "192.175.48.0/24",  # AS112, RFC 7534 and 7535
        "192.52.193.0/24",  # automatic multicast tunnelling, RFC 7450
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "2001::/23",  # IETF protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID and others
        "2001:db8::/32", "3fff::/20",  # documentation, RFC 3849 and 9637
        "2002::/16",  # 6to4, RFC 3056
        "2620:4f:8000::/48",  # AS112, RFC 7534
    )
)  # fmt: skip


class Resolver(Protocol):
    """Resolves a host name to its addresses."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Returns the addresses of the host; raises `OSError` if there are none."""
        ...


class SystemResolver:
    """Uses the resolver of this machine, which also normalises literal addresses in all their spellings."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class Destination:
    """The URL to connect to (with the checked address as its host), and the `host` header and TLS server
    name to use.
    """

    url: str
    host: str
    server_name: str


def refuse_bad_url(url: str, networks: Sequence[Network]) -> None:
    """Raises `invalid` for a URL that no webhook can use, without a DNS lookup.

    `webhook-url-invalid`: it is not a valid webhook address; `webhook-address-refused`: its host is a literal address
    that is not public.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad() from None
    if not host or port == 0 or parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad()
    if not url.isascii() or any(letter <= " " or letter in '\\"<>^`{|}' for letter in url):
        raise _bad()
    if parts.scheme not in _PORTS or (parts.scheme == "http" and not networks):
        raise invalid("webhook-url-invalid", "The address of a webhook must begin with https://.")
    with suppress(ValueError):  # a host name is checked at each attempt, when it is resolved
        _refuse_inside(ipaddress.ip_address(host), parts.scheme, networks)


async def destination(url: str, resolver: Resolver, networks: Sequence[Network]) -> Destination:
    """Resolves the URL and returns its checked address; raises as `refuse_bad_url`, or `OSError`."""
    refuse_bad_url(url, networks)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    addresses = [ipaddress.ip_address(found.partition("%")[0]) for found in await resolver.resolve(host, port)]
    if not addresses:
        raise OSError("the host name has no address")
    for address in addresses:
        _refuse_inside(address, parts.scheme, networks)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(f"{parts.scheme}://{literal}:{port}{path}", parts.netloc, host)


def is_public(address: Address) -> bool:
    """Whether the address is in the public internet, is for no special purpose, and contains no other address."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved)
        and not any(address in network for network in _SPECIAL)
    )


def _refuse_inside(address: Address, scheme: str, networks: Sequence[Network]) -> None:
    named = any(address in network for network in networks)
    if not named and (scheme != "https" or not is_public(address)):
        raise invalid(
            "webhook-address-refused",
            "This address is in a network that webhooks must not reach: use a public address with https.",
        )


def _bad() -> WriteCareError:
    return invalid(
        "webhook-url-invalid",
        "The address of a webhook must be https://host[:port]/path in ASCII, without user name, password or fragment.",
    )
