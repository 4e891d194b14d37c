"""Tests the rules of the repository with the same tools as `./writecare check`."""

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from pydantic import BaseModel

from models.contract import records

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "comms", "instance", "pipelines", "serving", "training", "cli", "benchmarks", "tests")
TOOLS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["mypy"],
    "import contracts": ["lint-imports"],
}


@pytest.mark.parametrize("rule", TOOLS)
def test_the_house_keeps_its_rule_of(rule: str) -> None:
    command = [str(Path(sys.executable).parent / TOOLS[rule][0]), *TOOLS[rule][1:]]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-2000:]


def test_no_installed_distribution_supplies_a_package_of_our_names() -> None:
    supplied = metadata.packages_distributions()
    assert {room: supplied[room] for room in PACKAGES if room in supplied} == {}


@pytest.mark.parametrize("room", PACKAGES)
def test_our_rooms_are_imported_from_this_tree(room: str) -> None:
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def test_the_lock_pins_every_version_with_a_hash_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    blocks = re.split(r"\n(?=[a-z0-9])", lock)[1:]
    assert len(blocks) > 200
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_every_third_party_licence_is_listed() -> None:
    listed = (ROOT / "THIRD_PARTY.md").read_text()
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [match for line in lines if (match := re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line))]
    assert [m[0] for m in pins if f"| {m[1]} | {m[2]} |" not in listed] == []


def test_records_show_no_spoken_words_in_their_repr() -> None:
    spoken = "He grabbed my arm and it hurt"
    shown = [
        repr(record)
        for record in (
            records.Word(word=spoken, start_seconds=0, end_seconds=1, confidence=1),
            records.Utterance(speaker="S1", start_seconds=0, end_seconds=1, text=spoken, confidence=1),
            records.Turn(speaker="S1", text=spoken),
            records.Conversation(id="c", turns=(records.Turn(speaker="S1", text=spoken),)),
            records.Evidence(turn=0, start=0, end=5, text=spoken, weight=0.5),
            records.SummarySentence(text=spoken, turns=(0,)),
            records.ActionItem(turn=0, text=spoken, owner="S1", due=spoken),
        )
    ]
    assert [text for text in shown if "grabbed" in text] == []


def test_every_text_field_of_a_record_that_could_hold_speech_is_kept_out_of_its_repr() -> None:
    spoken_names = {"text", "word", "words", "utterances", "name", "due"}
    nouns = [noun for noun in vars(records).values() if isinstance(noun, type) and issubclass(noun, BaseModel)]
    shown = [
        f"{noun.__name__}.{name}"
        for noun in nouns
        for name, field in noun.model_fields.items()
        if name in spoken_names and field.repr
    ]
    assert shown == []


def test_no_file_of_the_project_names_a_package_registry() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    registry = re.compile(r"https?://[^ \"'<>)]*(?:pypi\.|pythonhosted|registry\.npm|deb\.debian)")
    texts = [ROOT / file for file in files if Path(file).suffix not in {".flac", ".safetensors", ".png"}]
    assert [str(file) for file in texts if file.exists() and registry.search(file.read_text(errors="ignore"))] == []
