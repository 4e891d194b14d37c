"""Tests the main job as a new user does it: one command; a call goes in, an alert with evidence comes out.

Both runs happen in a network namespace (`isolated_network.py`) that has only loopback. Every packet to another address
is recorded.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import jiwer
import numpy as np
import psutil
import pytest
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from models.audio.decoder import SAMPLE_RATE, decode
from models.contract.records import CATEGORIES, Analysis, Transcript

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "tr-a-0053.flac"
REFERENCE = json.loads(SAMPLE.with_suffix(".json").read_text())

pytestmark = pytest.mark.timeout(1500)


@dataclass(frozen=True)
class Done:
    """The results of one run of the demo."""

    code: int
    shown: str
    progress: str
    document: Any
    packets: str
    data: Path


def run_demo(folder: Path, data: Path, *sources: str) -> Done:
    document, packets = folder / "demo.json", folder / "packets"
    alone = [
        "unshare", "--user", "--map-root-user", "--net", sys.executable,
        str(ROOT / "tests/journeys/isolated_network.py"),
    ]  # fmt: skip
    command = [str(ROOT / "writecare"), "demo", *sources, "--data", str(data), "--json", str(document)]
    ran = subprocess.run([*alone, str(packets), *command], capture_output=True, text=True, check=False)
    written = json.loads(document.read_text()) if document.exists() else None
    return Done(ran.returncode, ran.stdout, ran.stderr, written, packets.read_text(), data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journey")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Done:
    """Runs the demo with the bundled call on an empty data folder."""
    done = run_demo(folder, folder / "data")
    assert done.code == 0, done.progress[-3000:]
    return done


@pytest.fixture(scope="module")
def own_files(folder: Path, demo: Done) -> Done:
    """Runs the demo with the user's own files in the same data folder: a video, an MP3, and a file without audio."""
    own = folder / "own"
    own.mkdir()
    samples = decode(SAMPLE, max_seconds=60).samples[: 14 * SAMPLE_RATE]
    encode(own / "call.mp4", samples, "aac", 44_100)
    encode(own / "call.mp3", samples, "mp3", 44_100)
    encode(own / "silence.wav", np.zeros(3 * SAMPLE_RATE, dtype=np.float32), "pcm_s16le", 8_000)
    (own / "letter.wav").write_bytes(b"Dear all, this is not sound.")
    names = [str(own / name) for name in ("call.mp4", "call.mp3", "silence.wav", "letter.wav")]
    return run_demo(own, demo.data, *names)


def encode(path: Path, samples: np.ndarray[Any, np.dtype[np.float32]], codec: str, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        frame = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16).reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate, frame_size=1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


# --- the bundled call --------------------------------------------------------------------------------------------


def test_it_hears_what_was_said(demo: Done) -> None:
    normalise = EnglishTextNormalizer({})
    said = normalise(" ".join(turn["text"] for turn in REFERENCE["turns"]))
    heard = normalise(" ".join(word["word"] for word in demo.document["transcript"]["words"]))
    assert jiwer.wer(said, heard) < 0.3


def test_it_tells_the_two_speakers_apart(demo: Done) -> None:
    assert len(demo.document["transcript"]["speakers"]) == 2


def test_the_document_has_the_promised_shapes(demo: Done) -> None:
    document = demo.document
    transcript = {name: value for name, value in document["transcript"].items() if name != "source"}
    assert document["transcript"]["source"] == str(SAMPLE)
    assert len(Transcript.model_validate(transcript).utterances) == len(document["analysis"]["turns"])
    for turn in Analysis.model_validate(document["analysis"]).turns:
        assert set(turn.scores) == {*CATEGORIES, "any"}
    assert [set(timing) for timing in document["timings"]] == [{"stage", "audio_seconds", "wall_seconds"}] * len(
        document["timings"]
    )
    assert {"decoding", "transcription", "diarization", "attribution", "reading"} <= {
        timing["stage"] for timing in document["timings"]
    }


def test_an_alert_is_raised_whose_evidence_lies_in_the_audio(demo: Done) -> None:
    alert, utterances = demo.document["alert"], demo.document["transcript"]["utterances"]
    assert alert["state"] == "new"
    assert alert["evidence"]
    for piece in alert["evidence"]:
        said = utterances[piece["utterance"]]
        assert piece["text"] == said["text"]
        assert 0 <= piece["start_seconds"] < piece["end_seconds"] <= demo.document["transcript"]["duration_seconds"]
        assert piece["threshold"] <= piece["probability"] <= 1


def test_every_model_names_its_version(demo: Done) -> None:
    versions = demo.document["analysis"]["models"]
    assert {
        "transcription", "diarization", "safeguarding", "risk", "sentiment", "summarisation", "actions", "embedding",
    } <= set(versions)  # fmt: skip
    assert all(versions.values())


def test_a_person_can_read_it_at_a_glance(demo: Done) -> None:
    for heading in ("Transcript", "Concerns for a person to judge", "Summary", "Actions", "Alert", "Timings", "Models"):
        assert heading in demo.shown
    assert demo.document["alert"]["id"] in demo.shown


def test_the_whole_system_stays_under_six_gibibytes(demo: Done) -> None:
    assert 0 < demo.document["system"]["peak_memory_bytes"] < 6 * 1024**3


# # --- after the run -------------------------------------------------------------------------------------------------


def running_on(data: Path) -> list[str]:
    return [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline", "environ"])
        if str(data) in " ".join(process.info["cmdline"] or [])
        or (process.info["environ"] or {}).get("WRITECARE_DATA_DIR") == str(data)
    ]


def test_nothing_is_left_running(demo: Done, own_files: Done) -> None:
    deadline = time.monotonic() + 20  # the kernel may still be removing the last ones
    while (left := running_on(demo.data)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_no_outside_address_is_contacted(demo: Done, own_files: Done) -> None:
    assert demo.packets == ""
    assert own_files.packets == ""


def test_no_spoken_word_and_no_plain_audio_is_left_outside_the_database(demo: Done, own_files: Done) -> None:
    spoken = [word["word"].strip(".,?!").encode() for word in demo.document["transcript"]["words"]]
    telling = {word for word in spoken if len(word) >= 9}
    assert telling
    files = [path for path in demo.data.rglob("*") if path.is_file() and "postgres" not in path.parts]
    found = {
        (path.name, word.decode())
        for path in files
        if path.suffix in {".log", ".json"} and "models" not in path.parts
        for word in telling
        if word in path.read_bytes()
    }
    assert found == set()
    stored = [path for path in files if "recordings" in path.parts]
    assert stored
    assert [path.name for path in stored if path.read_bytes()[:4] in (b"fLaC", b"RIFF", b"ID3\x04")] == []


# --- the user's own files ------------------------------------------------------------------------------------------


def test_own_files_are_walked_and_the_one_that_is_no_audio_is_named(own_files: Done) -> None:
    assert own_files.code == 1
    assert [Path(call["source"]).name for call in own_files.document] == ["call.mp4", "call.mp3", "silence.wav"]
    assert "letter.wav" in own_files.progress.strip().splitlines()[-1]


def test_a_video_and_an_mp3_of_one_call_say_the_same(own_files: Done) -> None:
    normalise = EnglishTextNormalizer({})
    video, music = (
        normalise(" ".join(word["word"] for word in call["transcript"]["words"])) for call in own_files.document[:2]
    )
    assert len(music.split()) > 20
    assert jiwer.wer(music, video) < 0.25


def test_silence_is_an_honest_empty_transcript_without_an_alert(own_files: Done) -> None:
    silent = own_files.document[2]
    assert silent["transcript"]["words"] == []
    assert silent["analysis"]["turns"] == []
    assert silent["alert"] is None
