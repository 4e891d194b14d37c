"""Where a webhook may lead: to the public internet over TLS, and to networks that the operator has named.

A name is resolved once, every address it has is checked, and the connection goes to the very address that was
checked: a name that answers otherwise a moment later (DNS rebinding) leads nowhere else.
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
# All that IANA has given out for use on the public internet (RFC 4291); everything else of IPv6 is for a special use.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Ranges for special purposes that `is_global` lets through, or did in some version of Python. Those of IPv6 that hold
# an IPv4 address lead wherever a gateway of this network takes them, so that what they hold is no matter.
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
    """Finds the addresses of a name."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Raises `OSError` where there are none."""
        ...


class SystemResolver:
    """As this machine resolves names; literal addresses in all their spellings become plain ones here."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True)
class Destination:
    """Where to connect (`url`, by address) and as whom to greet it (`host`, `server_name`)."""

    url: str
    host: str
    server_name: str


def refuse_bad_url(url: str, networks: Sequence[Network]) -> None:
    """Raises `invalid` for what can never be sent to, without asking any name server.

    `webhook-url-invalid`: no address for this; `webhook-address-refused`: it spells out an address that lies inside.
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
        raise invalid("webhook-url-invalid", "A webhook's address begins with https://.")
    with suppress(ValueError):  # a name is looked at when it is resolved, each time
        _refuse_inside(ipaddress.ip_address(host), parts.scheme, networks)


async def destination(url: str, resolver: Resolver, networks: Sequence[Network]) -> Destination:
    """The checked address of the URL; raises as `refuse_bad_url`, or `OSError`."""
    refuse_bad_url(url, networks)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    addresses = [ipaddress.ip_address(found.partition("%")[0]) for found in await resolver.resolve(host, port)]
    if not addresses:
        raise OSError("the name has no address")
    for address in addresses:
        _refuse_inside(address, parts.scheme, networks)
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(f"{parts.scheme}://{literal}:{port}{path}", parts.netloc, host)


def is_public(address: Address) -> bool:
    """Whether the address is one of the public internet's own, for no special purpose, and holds no other inside it."""
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
            "This address leads to a network that no webhook may reach: use a public one, over https.",
        )


def _bad() -> WriteCareError:
    return invalid(
        "webhook-url-invalid",
        "A webhook's address is https://host[:port]/path in plain ASCII, without user name, password or fragment.",
    )
