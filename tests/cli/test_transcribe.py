"""`writecare transcribe` follows the same settings as the running system."""

from pathlib import Path

import pytest

from cli.transcribe import main
from tests.factories import wav


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of three seconds; the command is called somewhere else than where its state lies."""
    recording = tmp_path / "call.wav"
    recording.write_bytes(wav(3.0))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("WRITECARE_DATA_DIR", str(tmp_path / "state"))
    return recording


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_longer_recordings_than_the_settings_allow_are_refused_and_state_lies_where_they_say(
    call: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRITECARE_MAX_RECORDING_SECONDS", "2")
    assert main([str(call)]) == 1
    assert "at most 2.0 s is taken" in last_line(capsys)
    assert (call.parent / "state" / "models").is_dir()
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("setting", ["WRITECARE_ASR_MODEL", "WRITECARE_DIARIZATION_PIPELINE"])
def test_the_models_that_the_settings_name_are_the_ones_loaded(
    call: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    monkeypatch.setenv(setting, str(call.parent / "no-such-model"))
    assert main([str(call)]) == 1
    assert "no-such-model" in last_line(capsys)
