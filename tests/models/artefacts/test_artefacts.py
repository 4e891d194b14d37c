"""Artefacts: written and read back unchanged; a changed or missing file is refused."""

from pathlib import Path

import numpy as np
import pytest

from models.artefacts.files import Provenance, load_manifest, read_arrays, read_document, write_artefact
from models.contract.errors import WriteCareError
from models.registry.champions import SHIPPED

PROVENANCE = Provenance(version="1.2.3", dataset_sha256="d" * 64)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    directory = tmp_path / "taste"
    write_artefact(
        directory,
        PROVENANCE,
        arrays={"w": np.eye(2, dtype=np.float16)},
        documents={"x.json": [1]},
        thresholds={"t": 0.5},
    )
    return directory


def test_it_is_read_back_as_it_was_written(artefact: Path) -> None:
    manifest = load_manifest(artefact)
    assert manifest.label == "taste@1.2.3"
    assert manifest.thresholds == {"t": 0.5}
    assert read_arrays(artefact)["w"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert read_document(artefact, "x.json") == [1]


@pytest.mark.parametrize("file", ["weights.safetensors", "x.json"])
def test_a_changed_file_is_refused(artefact: Path, file: str) -> None:
    content = bytearray((artefact / file).read_bytes())
    content[-1] ^= 1
    (artefact / file).write_bytes(content)
    with pytest.raises(WriteCareError, match=file) as refusal:
        load_manifest(artefact)
    assert refusal.value.slug == "artefact-corrupt"


def test_a_missing_file_and_a_missing_directory_are_named(artefact: Path) -> None:
    (artefact / "x.json").unlink()
    with pytest.raises(WriteCareError, match=r"x\.json"):
        load_manifest(artefact)
    with pytest.raises(WriteCareError, match="nowhere") as refusal:
        load_manifest(artefact.parent / "nowhere")
    assert refusal.value.slug == "artefact-missing"


def test_what_ships_is_small_and_holds_no_pickle() -> None:
    files = [file for file in SHIPPED.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert sum(file.stat().st_size for file in files) < 40_000_000
