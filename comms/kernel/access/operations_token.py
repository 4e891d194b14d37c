"""The installation's own token for supervisors: made at the first start, kept for this user's eyes alone."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

FILE: Final = "operations.token"


@dataclass(frozen=True)
class OperationsToken:
    """Opens `/metrics` and `/health/detailed`, and nothing else."""

    _token: str = field(repr=False)

    @classmethod
    def open(cls, keys_dir: Path, named: SecretStr | None) -> "OperationsToken":
        """The one that the settings name, else the one in the folder of keys, made where it is missing."""
        if named is not None:
            return cls(named.get_secret_value())
        file = keys_dir / FILE
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = file.with_name(f"{FILE}.{secrets.token_hex(8)}")
        if not file.exists():
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(32))
            try:
                os.link(fresh, file)  # whole or not at all, and of several processes at once only the first's
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(file.read_text().strip())

    def is_that(self, credential: str) -> bool:
        """Whether somebody holds it; takes as long for every wrong one."""
        return secrets.compare_digest(self._token.encode(), credential.encode())
