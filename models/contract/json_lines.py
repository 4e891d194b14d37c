"""Reads JSON lines files, also with byte-order marks, CRLF line ends and empty lines, as other programs write them."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def nonblank_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, each with its line number, counted from 1.

    Only LF ends a line, as the format requires: a JSON text may contain other Unicode line separators. Any line may
    begin with a byte-order mark, because files are sometimes concatenated.
    """
    for number, line in enumerate(lines, start=1):
        content = line.strip().removeprefix(BOM_UTF8).strip()
        if content:
            yield number, content


def read_json_lines(file: Path) -> list[Any]:
    """The values of the file, in order. Raises `ValueError` if a line is not JSON, `OSError` if the read fails."""
    with file.open("rb") as lines:
        return [json.loads(content) for _, content in nonblank_lines(lines)]
