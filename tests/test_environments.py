"""The light environment is a part of the full one, and is all that comms, its tests and the checks need."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
HEAVY: Final = ("torch", "ray", "mlflow", "transformers", "whisperx", "pyannote-audio", "scikit-learn", "spacy")

# Imports every module of comms and of its tests while whatever the light lock does not hold cannot be imported.
IMPORT_ALL: Final = """
import importlib, pathlib, re, sys
from importlib import metadata

light = {re.sub("[-_.]+", "-", name).lower() for name in sys.argv[1].split(",")}
normal = lambda name: re.sub("[-_.]+", "-", name).lower()
owners = metadata.packages_distributions()

class Refuse:
    def find_spec(self, name, path=None, target=None):
        held = owners.get(name, [])
        if held and not any(normal(owner) in light for owner in held):
            raise ModuleNotFoundError(f"{name} is not in requirements-light.lock", name=name)

sys.meta_path.insert(0, Refuse())
for folder in ("comms", "tests/comms"):
    for file in sorted(pathlib.Path(folder).rglob("*.py")):
        importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
print("all imported")
"""


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """What a lock pins: version and hashes by name."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text())[1:]:
        match = re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", block)
        assert match is not None, block[:80]
        found[match[1]] = (match[2], frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block)))
    return found


def test_the_light_lock_is_a_part_of_the_full_one_with_the_same_versions_and_hashes() -> None:
    full, light = pins("requirements.lock"), pins("requirements-light.lock")
    assert {name: pin for name, pin in light.items() if full.get(name) != pin} == {}
    assert all(hashes for _, hashes in light.values())
    assert len(light) > 100


def test_the_light_lock_names_no_address() -> None:
    lock = (ROOT / "requirements-light.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock


def test_the_light_lock_holds_no_models_and_no_ray() -> None:
    assert [name for name in HEAVY if name in pins("requirements-light.lock")] == []
    assert [name for name in HEAVY if name not in pins("requirements.lock")] == []


def test_the_light_lock_holds_all_that_is_asked_for() -> None:
    lines = (ROOT / "requirements-light.in").read_text().splitlines()
    asked = {match[0] for line in lines if (match := re.match(r"[a-z0-9._-]+", line))}
    assert asked - set(pins("requirements-light.lock")) == set()
    assert "-r requirements-light.in" in (ROOT / "requirements.in").read_text()


@pytest.mark.timeout(1200)
def test_comms_and_its_tests_import_nothing_that_the_light_lock_does_not_hold() -> None:
    command = [sys.executable, "-P", "-c", IMPORT_ALL, ",".join(pins("requirements-light.lock"))]
    outcome = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert outcome.stdout.endswith("all imported\n")


def test_the_light_command_refuses_a_link_in_the_place_of_its_environment(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    for name in ("writecare", "requirements.lock", "requirements-light.lock"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / "elsewhere").mkdir()
    (root / ".venv-light").symlink_to(root / "elsewhere")
    outcome = subprocess.run(
        ["bash", str(root / "writecare"), "check", "--light"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 1
    assert ".venv-light is a link to another place" in outcome.stderr
