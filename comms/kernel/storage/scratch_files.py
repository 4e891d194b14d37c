"""Temporary plain files without a name: they disappear when they are closed, or when their process ends.

They are in the data folder and not in the system's temporary folder, so that they are on the same disk as the data
folder, with its encryption if it has one.
"""

import tempfile
from pathlib import Path
from typing import BinaryIO, cast


def open_scratch(data_dir: Path) -> BinaryIO:
    """An empty file to read and write, which no other process can open by a name."""
    folder = data_dir / "scratch"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
