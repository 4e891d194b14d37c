"""Which version of each model serves now: what every capability asks before it loads anything.

`models/registry/mlflow_registry` writes the answer to `DIR/models/champions.json`; Serve replicas, the worker and the
command line read it here and import no MLflow. Where no registry has been made yet, the versions that ship with the
program serve.
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
    """One version of one model. `path`: its directory, None where the weights come from an installed package.

    `sha256` is that of the directory's manifest, which holds its files' digests; of a packaged model, of its
    pinned digests (`models/artefacts/weight_digests.py`).
    """

    name: str
    version: str
    path: Path | None
    sha256: str

    def as_document(self) -> dict[str, Any]:
        """JSON of it; `from_document` is the way back."""
        return {**asdict(self), "path": None if self.path is None else str(self.path)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "ResolvedModel":
        path = document["path"]
        return cls(str(document["name"]), str(document["version"]), path and Path(path), str(document["sha256"]))

    def verify(self) -> "ResolvedModel":
        """Itself, once manifest and files have their digests; raises `unavailable` (`artefact-…`) where not."""
        if self.path is not None:
            load_manifest(self.path)
            if sha256_of(self.path / MANIFEST_NAME) != self.sha256:
                raise unavailable(
                    "artefact-corrupt", f"The manifest of {self.name}@{self.version} was changed; it is not used."
                )
        return self

    def directory(self) -> Path:
        """Where its files lie; raises `missing` for a model whose weights come from a package."""
        if self.path is None:
            raise missing("model directory")
        return self.path


def packaged_models() -> dict[str, ResolvedModel]:
    """The models whose weights come whole from installed packages."""
    return {
        name: ResolvedModel(name, version, None, hashlib.sha256(json.dumps(pinned).encode()).hexdigest())
        for name, version, pinned in (
            ("transcription", WHISPER_VERSION, digests.WHISPER_MODEL_BIN),
            ("diarization", DIARIZATION_VERSION, digests.SPEAKER_MODELS),
            ("embedding", SENTENCE_ENCODER_VERSION, digests.SENTENCE_ENCODER),
        )
    }


def shipped_models(shipped_dir: Path = SHIPPED) -> dict[str, ResolvedModel]:
    """The versions that come with the program, their digests checked; raises `unavailable` where one fails."""
    found = packaged_models()
    for manifest_file in sorted(shipped_dir.glob(f"*/{MANIFEST_NAME}")):
        manifest = load_manifest(manifest_file.parent)
        digest = sha256_of(manifest_file)
        found[manifest.name] = ResolvedModel(manifest.name, manifest.version, manifest_file.parent, digest)
    return found


def champions(data_dir: Path, shipped_dir: Path = SHIPPED) -> dict[str, ResolvedModel]:
    """Model name -> the version that serves in this data folder, digests checked.

    Raises `unavailable` (`artefact-missing`, `artefact-corrupt`) where an artefact is not what it was.
    """
    file = data_dir / "models" / FILE_NAME
    if not file.exists():
        return shipped_models(shipped_dir)
    written = json.loads(file.read_text(encoding="utf-8"))
    return {name: ResolvedModel.from_document(document).verify() for name, document in written.items()}


def write_champions(artefacts_dir: Path, resolved: dict[str, ResolvedModel]) -> None:
    """Lays the answer beside the artefacts, whole or not at all."""
    artefacts_dir.mkdir(parents=True, exist_ok=True)
    temporary_file = artefacts_dir / f".{FILE_NAME}.{uuid.uuid4().hex}"
    text = json.dumps({name: model.as_document() for name, model in sorted(resolved.items())}, indent=2)
    temporary_file.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary_file, artefacts_dir / FILE_NAME)
