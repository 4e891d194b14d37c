"""Runs a command in its own network namespace: loopback, and one outside interface on which every packet is recorded.

    unshare --user --map-root-user --net python tests/journeys/isolated_network.py PACKETS COMMAND …

The command has a default route and so can try to reach any address. The destination of each packet it sends is written
to the file PACKETS, one per line. Exits with the command's code.
"""

import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS, _SIOCADDRT = 0x8916, 0x891C, 0x8914, 0x890B
_UP_AND_RUNNING = 0x1 | 0x40
_RTF_UP, _RTF_GATEWAY = 0x1, 0x2
_OUTSIDE = b"outside0"


def _address(ip: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))


def _bring_up(control: socket.socket, name: bytes) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name, _UP_AND_RUNNING))


def open_outside() -> int:
    """Makes an interface with a default route. Packets sent to it can be read from the returned descriptor."""
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH22x", _OUTSIDE, _IFF_TUN | _IFF_NO_PI))
    quiet = Path(f"/proc/sys/net/ipv6/conf/{_OUTSIDE.decode()}/disable_ipv6")
    if os.access(quiet, os.W_OK):
        quiet.write_text("1")  # else the kernel itself sends neighbour discovery packets
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _bring_up(control, b"lo")
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s", _OUTSIDE, _address("10.99.0.1")))
        fcntl.ioctl(control, _SIOCSIFNETMASK, struct.pack("16s16s", _OUTSIDE, _address("255.255.255.0")))
        _bring_up(control, _OUTSIDE)
        route = struct.pack(
            "@L16s16s16sHhLPhPLLH", 0, _address("0.0.0.0"), _address("10.99.0.2"), _address("0.0.0.0"),
            _RTF_UP | _RTF_GATEWAY, 0, 0, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        fcntl.ioctl(control, _SIOCADDRT, route)
    return tunnel


def destination(packet: bytes) -> str | None:
    """The destination of an IP packet, with the name if it is a DNS query; None for the kernel's own multicast."""
    version4 = packet[0] >> 4 == 4
    address = ipaddress.ip_address(packet[16:20] if version4 else packet[24:40])
    if address.is_multicast:
        return None
    datagram = packet[(packet[0] & 15) * 4 :] if version4 else packet[40:]
    is_question = packet[9 if version4 else 6] == socket.IPPROTO_UDP and datagram[2:4] == b"\x00\x35"
    return f"{address} asked for {_name(datagram[20:])}" if is_question else str(address)


def _name(question: bytes) -> str:
    labels = []
    while question and question[0]:
        labels.append(question[1 : 1 + question[0]].decode(errors="replace"))
        question = question[1 + question[0] :]
    return ".".join(labels)


def _write_down(tunnel: int, packets: Path) -> None:
    with packets.open("a") as out:
        while True:
            found = destination(os.read(tunnel, 65536))
            if found is not None:
                out.write(found + "\n")
                out.flush()


def main(packets: Path, command: list[str]) -> int:
    tunnel = open_outside()
    packets.touch()
    threading.Thread(target=_write_down, args=(tunnel, packets), daemon=True).start()
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
