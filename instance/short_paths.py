"""Short directories for sockets and Ray's files: a socket path has at most 107 bytes, a data folder's may be longer."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

_LONGEST: Final = 16  # below a longer directory Ray's sockets would exceed the limit


def short_dir(data_dir: Path, purpose: str) -> Path:
    """An empty directory for a data folder and purpose; the same path every time.

    Deletes what a killed predecessor left there: the caller holds the lock of the data folder, so no other process
    uses it. If another user owns this path, a new directory is created.
    """
    digest = hashlib.sha256(f"{os.getuid()}:{data_dir.resolve()}:{purpose}".encode()).hexdigest()[:10]
    parent = tempfile.gettempdir()
    place = Path(parent if len(parent) <= _LONGEST else "/tmp") / f"wcc-{digest}"  # noqa: S108 - checked to be ours
    try:
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            shutil.rmtree(place)
        place.mkdir(mode=0o700)
    except FileNotFoundError:
        place.mkdir(mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="wcc-", dir=place.parent))
    return place
