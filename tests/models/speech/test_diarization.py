"""Diarization of a call, of one voice and of silence; and the command from files to the contract's JSON."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import transcribe as command
from models.artefacts import weights
from models.audio import decoder
from models.contract.records import SpeakerTurn
from models.speech.diarization import Diarizer

SAMPLES = Path(__file__).parents[3] / "samples"
SECOND = decoder.SAMPLE_RATE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def diarizer(data: Path) -> Diarizer:
    return Diarizer(weights.diarization_pipeline(data / "models"))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return decoder.decode(SAMPLES / "tr-a-0053.flac", max_seconds=60).samples


@pytest.fixture(scope="module")
def turns(diarizer: Diarizer, samples: np.ndarray) -> tuple[SpeakerTurn, ...]:
    return diarizer.diarize(samples)


def active(turns: tuple[SpeakerTurn, ...], moment: float) -> set[str]:
    return {turn.speaker for turn in turns if turn.start_seconds <= moment < turn.end_seconds}


def test_two_people_are_told_apart(turns: tuple[SpeakerTurn, ...]) -> None:
    reference = json.loads((SAMPLES / "tr-a-0053.json").read_text())["turns"]
    assert {turn.speaker for turn in turns} == {"Speaker 1", "Speaker 2"}
    assert turns[0].speaker == "Speaker 1"
    names = {"S2": "Speaker 1", "S1": "Speaker 2"}  # S2 speaks first in this call
    for one in reference:
        assert names[one["speaker"]] in active(turns, (one["start"] + one["end"]) / 2) or one["end"] - one["start"] > 9


def test_turns_are_in_order_and_inside_the_call(turns: tuple[SpeakerTurn, ...]) -> None:
    starts = [turn.start_seconds for turn in turns]
    assert starts == sorted(starts)
    assert all(0 <= turn.start_seconds < turn.end_seconds <= 46.2 for turn in turns)


def test_a_known_number_of_speakers_is_kept(diarizer: Diarizer, samples: np.ndarray) -> None:
    found = diarizer.diarize(samples, num_speakers=1)
    assert {turn.speaker for turn in found} == {"Speaker 1"}


def test_one_voice_is_one_speaker(diarizer: Diarizer) -> None:
    track = decoder.decode(SAMPLES / "tr-a-0034.S2.ogg", max_seconds=60).samples
    assert {turn.speaker for turn in diarizer.diarize(track)} == {"Speaker 1"}


@pytest.mark.parametrize("seconds", [0, 0.1, 20])
def test_silence_has_no_speakers(diarizer: Diarizer, seconds: float) -> None:
    assert diarizer.diarize(np.zeros(int(seconds * SECOND), dtype=np.float32)) == ()


def test_telemetry_is_off_once_a_pipeline_is_loaded(diarizer: Diarizer) -> None:
    from pyannote.audio.telemetry.metrics import is_metrics_enabled  # noqa: PLC0415

    assert diarizer.version
    assert not is_metrics_enabled()


def test_the_command_writes_the_contracts_shape_and_goes_on_after_a_bad_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "letter.mp3"
    bad.write_text("not a call")
    tracks = "+".join(str(SAMPLES / f"tr-a-0034.S{number}.ogg") for number in (1, 2, 3))
    single = str(SAMPLES / "tr-a-0053.flac")
    code = command.main([str(bad), single, tracks, "--rttm", str(tmp_path / "rttm"), "--data", str(data)])
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert code == 1
    assert output.err.splitlines()[-1].startswith(str(bad))
    assert [line["source"] for line in lines] == [single, tracks]
    for line in lines:
        assert set(line) == {
            "source", "duration_seconds", "language", "speakers", "words", "utterances", "models", "not_understood",
            "sound",
        }  # fmt: skip
        assert set(line["words"][0]) == {"word", "start_seconds", "end_seconds", "confidence", "speaker"}
        assert set(line["utterances"][0]) == {"speaker", "start_seconds", "end_seconds", "text", "confidence"}
    assert len(lines[0]["speakers"]) == 2
    assert len(lines[1]["speakers"]) == 3
    assert "diarization" not in lines[1]["models"]
    written = (tmp_path / "rttm" / "tr-a-0053.rttm").read_text().splitlines()
    assert all(line.split()[0] == "SPEAKER" and len(line.split()) == 10 for line in written)


def test_transcribing_contacts_no_address(data: Path) -> None:
    script = (
        "import sys\n"
        "tried = []\n"
        "watched = {'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'}\n"
        "sys.addaudithook(lambda event, details: tried.append((event, details)) if event in watched else None)\n"
        "from cli import transcribe\n"
        "code = transcribe.main(sys.argv[1:])\n"
        "import time; time.sleep(1.5)  # an exporter would send its first batch after half a second\n"
        "print(code, [one for one in tried if not isinstance(one[1][-1], str)], file=sys.stderr)\n"
    )
    arguments = [str(SAMPLES / "tr-a-0034.S2.ogg"), "--data", str(data)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 []"


def test_wrong_use_of_the_command_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert command.main(["call.wav", "--speakers", "0"]) == 2
    assert capsys.readouterr().out == ""


# --- clustering of voices, with synthetic embeddings ------------------------------------------------------------


def spoken(voices: list[int], *, alike: float = 0.0, channel: float = 0.0, noise: float = 0.6) -> tuple[Any, list[Any]]:
    """Embeddings and windows of 4 s turns of the named voices. A window over a change of turn mixes two voices.

    `alike`: how similar the voices are. `channel`: how much all sound has in common.
    """
    random = np.random.default_rng(5)
    own = np.linalg.qr(random.normal(size=(192, 12)))[0].T
    centres = [
        np.sqrt(1 - alike - channel) * own[2 + v] + np.sqrt(alike) * own[0] + np.sqrt(channel) * own[1]
        for v in range(9)
    ]
    embeddings, windows = [], []
    for start in range(0, 200 * len(voices) - 74, 25):
        turns = np.arange(start, start + 75) // 200
        mixed = np.mean([centres[voices[turn]] for turn in turns], axis=0) + noise * random.normal(size=192) / np.sqrt(
            192
        )
        embeddings.append(mixed / np.linalg.norm(mixed))
        windows.append((start, start + 75))
    return np.array(embeddings), windows


def voices_found(embeddings: Any, windows: list[Any], *, least: int = 1, most: int = 8) -> int:
    from models.speech.pyannote_pipeline import _voice_centroids  # noqa: PLC0415 - imports pyannote; its telemetry must be switched off first

    return len(_voice_centroids(embeddings, windows, threshold=0.4, smallest=2, least=least, most=most))


@pytest.mark.parametrize("channel", [0.0, 0.3])
def test_alike_voices_are_told_apart_on_any_line(channel: float) -> None:
    assert voices_found(*spoken([0, 1, 0, 1, 0, 1], alike=0.3, channel=channel)) == 2
    assert voices_found(*spoken([0, 1, 2, 0, 1, 2, 0], alike=0.2, channel=channel)) == 3


@pytest.mark.parametrize("noise", [0.3, 0.8, 1.0])
def test_one_voice_is_not_split_however_noisy(noise: float) -> None:
    assert voices_found(*spoken([0] * 8, noise=noise)) == 1


def test_the_mixture_at_changes_of_speaker_makes_no_third_voice() -> None:
    assert voices_found(*spoken([0, 1] * 8, noise=0.2)) == 2


def test_somebody_who_speaks_once_is_a_voice() -> None:
    assert voices_found(*spoken([0, 1, 0, 2, 0, 1, 0])) == 3


def test_bounds_on_the_number_of_voices_are_kept() -> None:
    embeddings, windows = spoken([0, 1, 2, 0, 1, 2])
    assert voices_found(embeddings, windows, most=2) == 2
    assert voices_found(embeddings, windows, least=4, most=4) == 4
    assert voices_found(embeddings[:2], windows[:2], least=5, most=5) == 2


def test_a_long_call_is_grouped_from_a_sample_of_it() -> None:
    embeddings, windows = spoken([0, 1, 2, 1] * 60)
    assert len(windows) > 1800
    assert voices_found(embeddings, windows) == 3
