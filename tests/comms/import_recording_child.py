"""The attachments' child for a test. It reports in records `I` each import that fails after the process is confined."""

import codecs
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import BinaryIO

from comms.messaging.attachments.sanitising import child
from models.confinement.sandbox import send


class _Watch:
    """A module finder that finds nothing. It is called last, so it sees only modules that no other finder has found."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        self.missed.append(name)
        return None

    def find_codec(self, name: str) -> None:
        self.missed.append(f"codec {name}")


load = child.load


def main(arguments: list[str], source: BinaryIO, out: BinaryIO) -> None:
    watch = _Watch()
    sys.meta_path.append(watch)
    codecs.register(watch.find_codec)
    child.main(arguments, source, out)
    for name in watch.missed:
        send(out, b"I", name.encode())
