"""Registers the shipped model versions, once per version. The launcher runs `python -m instance.model_registration`.

It is a separate process that ends when it is done, because importing MLflow takes six seconds and 250 MB. If the
shipped versions are registered already, the launcher does not start it: `already_registered` reads only two small
files.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Final

from comms.kernel.json_logging import write_json_logs
from comms.kernel.settings import Settings
from models.artefacts.files import MANIFEST_NAME
from models.contract.errors import WriteCareError
from models.registry.champions import FILE_NAME, SHIPPED, champions, packaged_models

_MARKER_FILE: Final = "registered.json"


def already_registered(data_dir: Path, database: str) -> bool:
    """Whether the shipped versions are registered in this `database` (its name, without password)."""
    marker = data_dir / "models" / _MARKER_FILE
    champions_known = (data_dir / "models" / FILE_NAME).exists()
    if not champions_known or not marker.exists():
        return False
    try:
        known = champions(data_dir)  # after the data folder was moved or emptied, it may name missing files
        return marker.read_text() == _fingerprint(database) and all(
            model.path is None or (model.path / MANIFEST_NAME).exists() for model in known.values()
        )
    except WriteCareError:
        return False


def _fingerprint(database: str) -> str:
    manifests = {file.parent.name: file.read_bytes() for file in SHIPPED.glob(f"*/{MANIFEST_NAME}")}
    found = {name: hashlib.sha256(content).hexdigest() for name, content in manifests.items()}
    versions = {name: model.version for name, model in packaged_models().items()}
    return json.dumps({**found, **versions, "database": database}, sort_keys=True)


def main() -> int:
    """Exit code 0 when all shipped versions are registered."""
    write_json_logs()
    settings = Settings()
    assert settings.role_database_url is not None, "WRITECARE_ROLE_DATABASE_URL must be set to MLflow's database"
    from models.registry.mlflow_registry import Registry  # noqa: PLC0415 - MLflow is slow to import

    artefacts = settings.data_dir.resolve() / "models"
    Registry(settings.role_database_url.get_secret_value(), artefacts).register_shipped()
    temporary_file = artefacts / f".{_MARKER_FILE}.new"
    temporary_file.write_text(_fingerprint(sys.argv[1]))
    temporary_file.rename(artefacts / _MARKER_FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
