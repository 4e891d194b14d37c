"""Shipped artefacts on disk: a directory of safetensors and JSON with a manifest, checked before it is used.

A model's `load` opens one of these. Every file's sha256 stands in the manifest; nothing here is ever unpickled.
`training/` writes them, `models/registry/mlflow_registry` hands on their paths.
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
    """What a shipped artefact is: its version, the data it learnt from, its files' digests, thresholds, figures."""

    name: str
    version: str
    dataset_sha256: str
    files: dict[str, str]
    thresholds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The version that is stated beside every answer, as `name@version`."""
        return f"{self.name}@{self.version}"


def load_manifest(directory: Path) -> Manifest:
    """The manifest of `directory`, each named file's digest checked.

    Raises `WriteCareError` (`artefact-missing`, `artefact-corrupt`).
    """
    try:
        manifest = Manifest(**json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise unavailable("artefact-missing", f"There is no model artefact in {directory.name}; train it.") from error
    except (json.JSONDecodeError, TypeError) as error:
        raise unavailable("artefact-corrupt", f"The manifest of {directory.name} is not readable.") from error
    for name, digest in manifest.files.items():
        file = directory / name
        if not file.is_file() or sha256_of(file) != digest:
            raise unavailable(
                "artefact-corrupt", f"{directory.name}/{name} does not have the sha256 of its manifest; not used."
            )
    return manifest


@dataclass(frozen=True)
class Provenance:
    """Which release an artefact belongs to and the digest of the data that it learnt from."""

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
    """Write arrays to `weights.safetensors`, each document to its JSON file, and the manifest over all, last.

    The artefact is named after its directory.
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
    """The tensors of a checked artefact, by name."""
    arrays: dict[str, NDArray[Any]] = load_file(directory / "weights.safetensors")
    return arrays


def read_document(directory: Path, name: str) -> Any:
    """One JSON document of a checked artefact."""
    return json.loads((directory / name).read_text(encoding="utf-8"))


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
