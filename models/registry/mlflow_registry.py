"""Registers model versions in MLflow and sets the champion of each model.

MLflow keeps names, versions, tags and the alias `champion` in a database of its own in the embedded PostgreSQL; no
MLflow server runs. Artefacts are in the data folder, each with its manifest. Only this module and `training/` import
MLflow; all other code uses `models/registry/champions.py`.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

# Set before MLflow is imported: otherwise it sends usage reports, and warns if git is not installed.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", GIT_PYTHON_REFRESH="quiet")

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from models.artefacts.files import MANIFEST_NAME
from models.contract.errors import missing
from models.registry.champions import SHIPPED, ResolvedModel, shipped_models, write_champions

CHAMPION: Final = "champion"
_SHIPPED: Final = "shipped"  # value of `champion_set_by`: this program set the champion, not a person


def mlflow_client(url: str) -> MlflowClient:
    """An MLflow client on our database, for the versions here and for the runs in `training/report/tracking`."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    return MlflowClient(tracking_uri=url, registry_uri=url)


class Registry:
    """The model versions of one installation. The constructor creates MLflow's tables if needed (a few seconds)."""

    def __init__(self, mlflow_url: str, artefacts_dir: Path) -> None:
        """`mlflow_url`: `postgresql://…` of MLflow's database; `artefacts_dir`: `DIR/models`."""
        self._client = mlflow_client(mlflow_url)
        self._artefacts = artefacts_dir.resolve()

    def register_shipped(self, shipped_dir: Path = SHIPPED) -> dict[str, ResolvedModel]:
        """Registers every shipped version that is not registered yet, and returns the champions. Idempotent.

        A newly shipped version becomes champion only if the current champion was shipped too. A version that a person
        promoted stays champion. Raises `unavailable` if a shipped artefact fails its digest check.
        """
        for model in shipped_models(shipped_dir).values():
            self._ensure_registered_model(model.name)
            self._copy_artefact(model)
            number = self._mlflow_version(model.name, model.version, model.sha256) or self._register(model)
            if self._client.get_registered_model(model.name).tags.get("champion_set_by", _SHIPPED) == _SHIPPED:
                self._set_champion_alias(model.name, number, set_by=_SHIPPED)
        return self.write_champions()

    def resolve(self, name: str, alias: str = CHAMPION) -> ResolvedModel:
        """The version that `models:/name@alias` names. Raises `missing` if there is none."""
        try:
            return self._to_resolved_model(self._client.get_model_version_by_alias(name, alias))
        except MlflowException:
            raise missing(f"model {name}@{alias}") from None

    def set_champion(self, name: str, version: str) -> ResolvedModel:
        """Sets the champion to a registered version, for a person. Raises `missing` for an unknown version."""
        number = self._mlflow_version(name, version)
        if number is None:
            raise missing(f"version {version} of the model {name}")
        self._set_champion_alias(name, number, set_by="person")
        return self.write_champions()[name]

    def write_champions(self) -> dict[str, ResolvedModel]:
        """Writes the champions to `champions.json`, for code that does not import MLflow, and returns them."""
        names = [model.name for model in self._client.search_registered_models() if CHAMPION in model.aliases]
        resolved = {name: self.resolve(name) for name in names}
        write_champions(self._artefacts, resolved)
        return resolved

    def _artefact_dir(self, name: str, version: str, sha256: str) -> Path:
        """Directory of an artefact, computed from name, version and digest. The data folder may be moved later."""
        return self._artefacts / name / f"{version}-{sha256[:8]}"

    def _copy_artefact(self, model: ResolvedModel) -> None:
        """Copies the artefact into the data folder if it is missing: a later release may not ship this version."""
        artefact_dir = self._artefact_dir(model.name, model.version, model.sha256)
        if model.path is not None and not artefact_dir.exists():
            artefact_dir.parent.mkdir(parents=True, exist_ok=True)
            staging_dir = Path(tempfile.mkdtemp(prefix=".new-", dir=artefact_dir.parent))
            shutil.copytree(model.path, staging_dir, dirs_exist_ok=True)
            staging_dir.rename(artefact_dir)

    def _register(self, model: ResolvedModel) -> str:
        artefact_dir = self._artefact_dir(model.name, model.version, model.sha256)
        tags = {"version": model.version, "sha256": model.sha256, "origin": _SHIPPED}
        if model.path is None:
            tags["weights"] = "package"
        else:
            tags["manifest"] = (artefact_dir / MANIFEST_NAME).read_text(encoding="utf-8")[:5000]
        return str(self._client.create_model_version(model.name, source=str(artefact_dir), tags=tags).version)

    def _ensure_registered_model(self, name: str) -> None:
        try:
            self._client.get_registered_model(name)
        except MlflowException:
            self._client.create_registered_model(name)

    def _mlflow_version(self, name: str, version: str, sha256: str | None = None) -> str | None:
        """MLflow's number of our version; the newest if there are several, None if it is not registered."""
        found = [
            candidate
            for candidate in self._client.search_model_versions(f"name = '{name}'")
            if candidate.tags.get("version") == version and sha256 in (None, candidate.tags.get("sha256"))
        ]
        return max((str(candidate.version) for candidate in found), key=int, default=None)

    def _set_champion_alias(self, name: str, number: str, *, set_by: str) -> None:
        self._client.set_registered_model_alias(name, CHAMPION, number)
        self._client.set_registered_model_tag(name, "champion_set_by", set_by)

    def _to_resolved_model(self, found: "ModelVersion | Any") -> ResolvedModel:
        name, version, sha256 = str(found.name), str(found.tags["version"]), str(found.tags["sha256"])
        if found.tags.get("weights") == "package":
            return ResolvedModel(name, version, None, sha256)
        here = self._artefact_dir(name, version, sha256)  # the data folder may have been moved since registration
        return ResolvedModel(name, version, here if here.exists() else Path(found.source), sha256)
