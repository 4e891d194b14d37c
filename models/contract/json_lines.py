"""Files of one JSON value a line, as other programs write them: with byte-order marks, CRLF, and empty lines."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def nonblank_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, each with its number in the file, from 1.

    Lines end with LF alone, as the format has it: other line ends of Unicode may stand in a JSON text. A byte-order
    mark may begin any line: files are joined to one another.
    """
    for number, line in enumerate(lines, start=1):
        content = line.strip().removeprefix(BOM_UTF8).strip()
        if content:
            yield number, content


def read_json_lines(file: Path) -> list[Any]:
    """The values of the file, in order; raises `ValueError` where a line is not JSON, `OSError`."""
    with file.open("rb") as lines:
        return [json.loads(content) for _, content in nonblank_lines(lines)]
