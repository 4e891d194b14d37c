"""Registers the shipped model versions, once per version: `python -m instance.model_registration`, run by the launcher.

A process of its own that ends when it is done, because MLflow takes six seconds and 250 MB to import. Where what is
shipped has been registered before, it does not even begin: `already_registered` reads two small files.
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
    """Whether exactly what is shipped now was registered in this `database` (its name, without password)."""
    marker = data_dir / "models" / _MARKER_FILE
    champions_known = (data_dir / "models" / FILE_NAME).exists()
    if not champions_known or not marker.exists():
        return False
    try:
        known = champions(data_dir)  # a data folder that was moved or emptied names files that are gone
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
    """Exit code 0 when everything shipped is registered."""
    write_json_logs()
    settings = Settings()
    assert settings.role_database_url is not None, "the launcher names MLflow's own database"
    from models.registry.mlflow_registry import Registry  # noqa: PLC0415 - MLflow is slow to import

    artefacts = settings.data_dir.resolve() / "models"
    Registry(settings.role_database_url.get_secret_value(), artefacts).register_shipped()
    temporary_file = artefacts / f".{_MARKER_FILE}.new"
    temporary_file.write_text(_fingerprint(sys.argv[1]))
    temporary_file.rename(artefacts / _MARKER_FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
