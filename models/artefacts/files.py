"""Reads and writes model artefacts: directories of safetensors and JSON files with a manifest.

A model's `load` opens one. The manifest holds the sha256 of every file, and each digest is checked before use. Nothing
is unpickled. `training/` writes artefacts; `models/registry/mlflow_registry` returns their paths.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.contract.errors import unavailable

MANIFEST_NAME: Final = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The manifest of an artefact: version, digest of the training data, digests of its files, thresholds, figures."""

    name: str
    version: str
    dataset_sha256: str
    files: dict[str, str]
    thresholds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The version that every answer states, as `name@version`."""
        return f"{self.name}@{self.version}"


def load_manifest(directory: Path) -> Manifest:
    """Read the manifest of `directory` and check the digest of each file that it names.

    Raises `WriteCareError` (`artefact-missing`, `artefact-corrupt`).
    """
    try:
        manifest = Manifest(**json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise unavailable(
            "artefact-missing", f"{directory.name} holds no model artefact. Run `./writecare train`."
        ) from error
    except (json.JSONDecodeError, TypeError) as error:
        raise unavailable(
            "artefact-corrupt", f"The manifest of {directory.name} is not valid. Restore the files."
        ) from error
    for name, digest in manifest.files.items():
        file = directory / name
        if not file.is_file() or sha256_of(file) != digest:
            raise unavailable(
                "artefact-corrupt",
                f"The sha256 of {directory.name}/{name} differs from its manifest. Restore the file.",
            )
    return manifest


@dataclass(frozen=True)
class Provenance:
    """The release that an artefact belongs to, and the digest of its training data."""

    version: str
    dataset_sha256: str


def write_artefact(
    directory: Path,
    provenance: Provenance,
    *,
    arrays: dict[str, NDArray[Any]],
    documents: dict[str, Any] | None = None,
    thresholds: dict[str, float] | None = None,
    figures: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Manifest:
    """Write arrays to `weights.safetensors`, each document to its JSON file, and last the manifest of all files.

    The name of the directory is the name of the artefact.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    if arrays:
        save_file(
            {key: np.ascontiguousarray(value) for key, value in arrays.items()}, directory / "weights.safetensors"
        )
        written.append("weights.safetensors")
    for file, document in (documents or {}).items():
        (directory / file).write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        written.append(file)
    files = {file: sha256_of(directory / file) for file in sorted(written)}
    manifest = Manifest(
        name=directory.name,
        version=provenance.version,
        dataset_sha256=provenance.dataset_sha256,
        files=files,
        thresholds=thresholds or {},
        figures=figures or {},
        settings=settings or {},
    )
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"
    (directory / MANIFEST_NAME).write_text(text, encoding="utf-8")
    return manifest


def read_arrays(directory: Path) -> dict[str, NDArray[Any]]:
    """The tensors of an artefact whose digests were checked, by name."""
    arrays: dict[str, NDArray[Any]] = load_file(directory / "weights.safetensors")
    return arrays


def read_document(directory: Path, name: str) -> Any:
    """One JSON document of an artefact whose digests were checked."""
    return json.loads((directory / name).read_text(encoding="utf-8"))


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
