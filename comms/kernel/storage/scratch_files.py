"""Plain files for as long as they are looked at: a file without a name, which is gone with the process that opened it.

It lies in the data folder rather than in the system's temporary one, so that it shares the data folder's disk and
its encryption, if it has one.
"""

import tempfile
from pathlib import Path
from typing import BinaryIO, cast


def open_scratch(data_dir: Path) -> BinaryIO:
    """An empty file, readable and writable, that no other process can find by a name."""
    folder = data_dir / "scratch"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
