"""A short path for sockets and for Ray's own files, one a data folder: socket paths end at 107 bytes."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path


def scratch_dir(data_dir: Path) -> Path:
    """An empty directory of our own; what a predecessor that was killed left there is gone.

    The caller holds the data folder (`sole_instance`), so that nobody else uses its directory. Where the name is
    taken by somebody else, another is made.
    """
    short = hashlib.sha256(f"{os.getuid()}:{data_dir.resolve()}".encode()).hexdigest()[:10]
    place = Path(tempfile.gettempdir()) / f"wcc-{short}"
    try:
        found = place.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            shutil.rmtree(place)
        place.mkdir(mode=0o700)
    except FileNotFoundError:
        place.mkdir(mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="wcc-"))
    return place
