"""Tells which version of each model is in use (the champion), without importing MLflow.

`models/registry/mlflow_registry` writes the champions to `DIR/models/champions.json`. Serve replicas, the worker and
the command line read that file through this module. If the file does not exist yet, the versions that ship with the
program are used.
"""

import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from models.artefacts import weight_digests as digests
from models.artefacts.files import MANIFEST_NAME, load_manifest, sha256_of
from models.artefacts.weights import DIARIZATION_VERSION, SENTENCE_ENCODER_VERSION, WHISPER_VERSION
from models.contract.errors import missing, unavailable

SHIPPED: Final = Path(__file__).parents[1] / "shipped"
FILE_NAME: Final = "champions.json"


@dataclass(frozen=True)
class ResolvedModel:
    """One version of one model. `path`: its directory, or None if the weights come from an installed package.

    `sha256` is the digest of the directory's manifest, which holds the digests of its files. For a packaged model it is
    the digest of its pinned digests (`models/artefacts/weight_digests.py`).
    """

    name: str
    version: str
    path: Path | None
    sha256: str

    def as_document(self) -> dict[str, Any]:
        """A JSON document; `from_document` reads it back."""
        return {**asdict(self), "path": None if self.path is None else str(self.path)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "ResolvedModel":
        path = document["path"]
        return cls(str(document["name"]), str(document["version"]), path and Path(path), str(document["sha256"]))

    def verify(self) -> "ResolvedModel":
        """Check manifest and files against their digests. Raises `unavailable` (`artefact-…`) if one differs."""
        if self.path is not None:
            load_manifest(self.path)
            if sha256_of(self.path / MANIFEST_NAME) != self.sha256:
                raise unavailable(
                    "artefact-corrupt", f"The manifest of {self.name}@{self.version} was changed. Restore the artefact."
                )
        return self

    def directory(self) -> Path:
        """The directory of its files. Raises `missing` for a model whose weights come from a package."""
        if self.path is None:
            raise missing("model directory")
        return self.path


def packaged_models() -> dict[str, ResolvedModel]:
    """The models whose weights come entirely from installed packages."""
    return {
        name: ResolvedModel(name, version, None, hashlib.sha256(json.dumps(pinned).encode()).hexdigest())
        for name, version, pinned in (
            ("transcription", WHISPER_VERSION, digests.WHISPER_MODEL_BIN),
            ("diarization", DIARIZATION_VERSION, digests.SPEAKER_MODELS),
            ("embedding", SENTENCE_ENCODER_VERSION, digests.SENTENCE_ENCODER),
        )
    }


def shipped_models(shipped_dir: Path = SHIPPED) -> dict[str, ResolvedModel]:
    """The versions that ship with the program, with digests checked. Raises `unavailable` if a check fails."""
    found = packaged_models()
    for manifest_file in sorted(shipped_dir.glob(f"*/{MANIFEST_NAME}")):
        manifest = load_manifest(manifest_file.parent)
        digest = sha256_of(manifest_file)
        found[manifest.name] = ResolvedModel(manifest.name, manifest.version, manifest_file.parent, digest)
    return found


def champions(data_dir: Path, shipped_dir: Path = SHIPPED) -> dict[str, ResolvedModel]:
    """Model name -> the version in use in this data folder, with digests checked.

    Raises `unavailable` (`artefact-missing`, `artefact-corrupt`) if an artefact is missing or was changed.
    """
    file = data_dir / "models" / FILE_NAME
    if not file.exists():
        return shipped_models(shipped_dir)
    written = json.loads(file.read_text(encoding="utf-8"))
    return {name: ResolvedModel.from_document(document).verify() for name, document in written.items()}


def write_champions(artefacts_dir: Path, resolved: dict[str, ResolvedModel]) -> None:
    """Writes `champions.json` atomically."""
    artefacts_dir.mkdir(parents=True, exist_ok=True)
    temporary_file = artefacts_dir / f".{FILE_NAME}.{uuid.uuid4().hex}"
    text = json.dumps({name: model.as_document() for name, model in sorted(resolved.items())}, indent=2)
    temporary_file.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary_file, artefacts_dir / FILE_NAME)
