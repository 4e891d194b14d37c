"""Short paths for sockets and for Ray's own files: a socket's path ends at 107 bytes, data folders may lie deep."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

_LONGEST: Final = 16  # below a longer one Ray's sockets would pass the limit


def short_dir(data_dir: Path, purpose: str) -> Path:
    """An empty directory of our own, the same for a data folder and purpose every time.

    What a predecessor that was killed left there is gone: the caller holds the data folder, so that nobody else
    uses it. Where somebody else has taken the name, another is made.
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
