"""Maps offsets in folded text (SQL function `app.folded`) to offsets in the original text.

Folding removes accents and invisible characters and splits some letters. It treats each character separately, so it is
enough to know the folded length of each character.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

# The same characters as in `app.folded`; a test compares the two.
_LOST: Final = re.compile(
    "[\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u20d0-\u20ff\ufe00-\ufe0f"
    "\ufe20-\ufe2f\ufeff]"
)


@lru_cache(maxsize=4096)
def folded_length(character: str) -> int:
    """The number of characters that this character becomes in the folded text."""
    if character.isascii():
        return 1
    return len(_LOST.sub("", unicodedata.normalize("NFKD", character)))


class FoldedOffsets:
    """The offsets of one text."""

    def __init__(self, written: str) -> None:
        self._starts: Sequence[int] = (
            range(len(written) + 1) if written.isascii() else [0, *accumulate(map(folded_length, written))]
        )

    @property
    def folded_length(self) -> int:
        return self._starts[-1]

    def start(self, at: int) -> int:
        """The index of the original character from which the folded character at `at` comes."""
        return bisect_right(self._starts, at) - 1

    def end(self, at: int) -> int:
        """The end of a range in the original, for a range that ends before the folded character at `at`. It includes
        the accents of its last letter.
        """
        place = self.start(at)
        return place if self._starts[place] == at else place + 1
