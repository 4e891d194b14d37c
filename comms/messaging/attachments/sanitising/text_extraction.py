"""Collects the text of a file up to a limit of characters and of time. Used only in the confined child."""

import re
import time
from collections.abc import Iterable
from typing import Final

MAX_CHARACTERS: Final = 200_000
_MAX_SECONDS: Final = 15.0
_UNWRITTEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class TextCollector:
    """The text collected so far. `cut`: whether there was more."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._characters_left = MAX_CHARACTERS
        self._deadline = time.monotonic() + _MAX_SECONDS
        self.cut = False

    def add(self, pieces: Iterable[str]) -> None:
        """Adds pieces until the limit of characters or of time is reached."""
        for piece in pieces:
            if self._characters_left <= 0 or time.monotonic() > self._deadline:
                self.cut = True
                return
            written = _UNWRITTEN.sub(" ", piece.replace("\r\n", "\n").replace("\r", "\n"))
            self.cut = self.cut or len(written) > self._characters_left
            self._pieces.append(written[: self._characters_left])
            self._characters_left -= len(written)

    def text(self) -> str | None:
        """The whole text; None if it is empty or only whitespace."""
        return "".join(self._pieces).strip() or None
