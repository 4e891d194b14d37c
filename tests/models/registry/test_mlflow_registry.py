"""The MLflow registry on a real PostgreSQL, and reading the champions without it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from instance.provisioning import Databases
from models.artefacts.files import Provenance, write_artefact
from models.contract.errors import Kind, WriteCareError
from models.registry.champions import champions, packaged_models, shipped_models
from models.registry.mlflow_registry import Registry


def write_shipped_artefact(shipped_dir: Path, version: str, *, name: str = "judge") -> None:
    """Write a version that ships with the program."""
    weights = np.full(3, float(version.split(".", maxsplit=1)[0]))
    write_artefact(shipped_dir / name, Provenance(version, "0" * 64), arrays={"weights": weights})


@pytest.fixture
def shipped_dir(tmp_path: Path) -> Path:
    write_shipped_artefact(tmp_path / "shipped", "1.0.0")
    return tmp_path / "shipped"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def registry(databases: Databases, data: Path) -> Registry:
    return Registry(databases.mlflow, data / "models")


def refused(slug: str) -> "pytest.RaisesExc[WriteCareError]":
    return pytest.raises(WriteCareError, check=lambda error: error.slug == slug)


def test_what_is_shipped_serves_where_nothing_is_registered(data: Path, shipped_dir: Path) -> None:
    found = champions(data, shipped_dir)
    assert found == {**packaged_models(), "judge": shipped_models(shipped_dir)["judge"]}
    assert found["judge"].version == "1.0.0"


def test_shipped_versions_are_registered_once(registry: Registry, data: Path, shipped_dir: Path) -> None:
    first = registry.register_shipped(shipped_dir)
    assert registry.register_shipped(shipped_dir) == first
    assert first == champions(data, shipped_dir)
    assert {"transcription", "diarization", "embedding"} < set(first)


def test_a_registered_version_stays_when_the_program_brings_another(
    registry: Registry, data: Path, shipped_dir: Path
) -> None:
    old = registry.register_shipped(shipped_dir)["judge"]
    write_shipped_artefact(shipped_dir, "2.0.0")
    assert registry.register_shipped(shipped_dir)["judge"].version == "2.0.0"
    assert registry.set_champion("judge", "1.0.0").verify() == old
    assert champions(data)["judge"] == old


def test_what_a_person_promoted_is_not_replaced_by_a_newer_program(registry: Registry, shipped_dir: Path) -> None:
    registry.register_shipped(shipped_dir)
    registry.set_champion("judge", "1.0.0")
    write_shipped_artefact(shipped_dir, "3.0.0")
    assert registry.register_shipped(shipped_dir)["judge"].version == "1.0.0"


def test_the_alias_names_the_champion(registry: Registry, shipped_dir: Path) -> None:
    write_shipped_artefact(shipped_dir, "4.0.0", name="clerk")
    registry.register_shipped(shipped_dir)
    assert registry.resolve("clerk").version == "4.0.0"
    assert registry.resolve("clerk").path is not None


@pytest.mark.parametrize("name", ["clerk", "nobody"])
def test_a_version_that_was_never_registered_is_missing(registry: Registry, shipped_dir: Path, name: str) -> None:
    registry.register_shipped(shipped_dir)
    with pytest.raises(WriteCareError) as found:
        registry.set_champion(name, "9.9.9")
    assert found.value.kind is Kind.MISSING


def test_a_champion_whose_files_were_changed_is_refused(registry: Registry, data: Path, shipped_dir: Path) -> None:
    write_shipped_artefact(shipped_dir, "5.0.0", name="usher")
    weights = registry.register_shipped(shipped_dir)["usher"].directory() / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with refused("artefact-corrupt"):
        champions(data)


def test_a_champion_whose_manifest_was_changed_is_refused(registry: Registry, data: Path, shipped_dir: Path) -> None:
    write_shipped_artefact(shipped_dir, "6.0.0", name="bailiff")
    manifest = registry.register_shipped(shipped_dir)["bailiff"].directory() / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "thresholds": {"neglect": 0.99}}))
    with refused("artefact-corrupt"):
        champions(data)


def test_a_packaged_model_has_no_directory() -> None:
    with pytest.raises(WriteCareError) as found:
        packaged_models()["embedding"].directory()
    assert found.value.kind is Kind.MISSING


def test_artefacts_that_were_removed_or_moved_are_laid_again(
    databases: Databases, data: Path, shipped_dir: Path, tmp_path: Path
) -> None:
    first = Registry(databases.mlflow, data / "models").register_shipped(shipped_dir)["judge"].directory()
    shutil.rmtree(data / "models")
    again = Registry(databases.mlflow, data / "models").register_shipped(shipped_dir)["judge"]
    assert again.verify().directory() == first
    moved = Registry(databases.mlflow, tmp_path / "elsewhere").register_shipped(shipped_dir)["judge"]
    assert moved.verify().directory().is_relative_to(tmp_path / "elsewhere")
