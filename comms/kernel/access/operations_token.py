"""The token of the installation for supervisors and Prometheus.

It is created at the first start, in a file that only the user of this process can read.
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

FILE: Final = "operations.token"


@dataclass(frozen=True)
class OperationsToken:
    """Gives access to `/metrics` and `/health/detailed`, and to nothing else."""

    _token: str = field(repr=False)

    @classmethod
    def open(cls, keys_dir: Path, named: SecretStr | None) -> "OperationsToken":
        """The token of the settings, else the one in the folder of keys, which is created if it is missing."""
        if named is not None:
            return cls(named.get_secret_value())
        file = keys_dir / FILE
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = file.with_name(f"{FILE}.{secrets.token_hex(8)}")
        if not file.exists():
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(32))
            try:
                os.link(fresh, file)  # the file appears complete, and of several processes only the first creates it
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(file.read_text().strip())

    def is_that(self, credential: str) -> bool:
        """Whether `credential` is the token; every wrong one takes as long."""
        return secrets.compare_digest(self._token.encode(), credential.encode())
