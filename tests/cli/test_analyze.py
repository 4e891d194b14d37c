"""`writecare analyze`: the contract to the letter, and nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.analyze import main
from models.contract.records import CATEGORIES
from tests.instance.instances import ROOT

LINE: dict[str, Any] = {
    "id": "tr-1",
    "channel": "handover",
    "participants": [{"speaker": "S1", "role": "nurse", "name": "Mo"}, {"speaker": "S2", "role": "manager"}],
    "turns": [
        {"speaker": "S1", "text": "The agency nurse slapped Winnie twice last night, I saw it."},
        {"speaker": "S2", "text": "Right. I'll ring safeguarding now."},
    ],
}


def run(tmp_path: Path, *lines: Any, raw: bytes | None = None) -> tuple[int, Path]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    source.write_bytes(text.encode() if raw is None else raw)
    return main([str(source), str(target), "--data", str(tmp_path / "state")]), target


def test_one_line_out_per_line_in_with_exactly_the_fields_of_the_contract(tmp_path: Path) -> None:
    empty = {"id": "tr-2", "turns": []}
    code, target = run(tmp_path, LINE, empty, {**LINE, "id": "tr-3"})
    assert code == 0
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == ["tr-1", "tr-2", "tr-3"]
    first = answers[0]
    assert set(first) == {"id", "turns", "risk", "summary", "actions", "models"}
    assert [set(turn) for turn in first["turns"]] == [{"scores", "concerns", "sentiment"}] * 2
    assert set(first["turns"][0]["scores"]) == {*CATEGORIES, "any"}
    assert set(first["turns"][0]["concerns"][0]) == {"category", "severity", "probability"}
    assert set(first["turns"][0]["sentiment"]) == {"label", "probabilities"}
    assert set(first["risk"]) == {"level", "score"}
    assert all(set(action) == {"turn", "text", "owner", "due"} for action in first["actions"])
    assert first["summary"]["text"] == " ".join(sentence["text"] for sentence in first["summary"]["sentences"])
    assert answers[1]["turns"] == []


def test_a_conversation_in_a_language_that_the_readers_do_not_know_is_said_to_be_unread(tmp_path: Path) -> None:
    words = (
        "Dzień dobry, dzwonię w sprawie mojej mamy, która mieszka u państwa od marca.",
        "Wczoraj opiekunka krzyczała na nią i zamknęła ją na cały dzień w pokoju.",
        "Mama płakała przez telefon i bardzo się boi, że to się powtórzy.",
    )
    polish = {"id": "pl", "turns": [{"speaker": "S1", "text": text} for text in words]}
    code, target = run(tmp_path, polish)
    assert code == 0
    [answer] = [json.loads(line) for line in target.read_text().splitlines()]
    assert answer["language_supported"] is False
    assert answer["risk"]["level"] != "none"


def test_labels_in_the_input_are_not_read(tmp_path: Path) -> None:
    labelled = {
        **LINE,
        "risk": "none",
        "summary": "Nothing happened.",
        "tags": ["routine"],
        "asr_style": True,
        "turns": [{**turn, "concerns": [], "sentiment": "positive", "start": 3} for turn in LINE["turns"]],
    }
    code, target = run(tmp_path, LINE, labelled)
    assert code == 0
    plain, with_labels = (json.loads(line) for line in target.read_text().splitlines())
    assert plain["turns"][0]["scores"] == pytest.approx(with_labels["turns"][0]["scores"], abs=1e-3)
    assert plain["summary"] == with_labels["summary"]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("{not json", "is not JSON"),
        ("[1, 2]", "is not a JSON object"),
        ({"turns": []}, "id: Field required"),
        ({"id": "x"}, "turns: Field required"),
        ({"id": "x", "turns": [{"speaker": "S1"}]}, "turns.0.text"),
        ({"id": "x", "turns": [{"speaker": "S1", "text": 5}]}, "turns.0.text"),
        ({"id": "x", "turns": "hello"}, "turns"),
        ({"id": "x", "turns": [7]}, "turns.0"),
        ('{"id": "x", "turns": [], "n": ' + "1" * 5000 + "}", "is not JSON (number out of range"),
        (r'{"id": "\ud800", "turns": []}', "is not JSON"),
        (r'{"id": "x", "turns": [{"speaker": null, "text": "half \ud800"}]}', "is not JSON"),
        ("[" * 100_000, "is not JSON (recursion limit exceeded"),
    ],
)
def test_a_malformed_line_is_named_and_the_output_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: Any, what: str
) -> None:
    (tmp_path / "out.jsonl").write_text("before\n")
    code, target = run(tmp_path, LINE, bad, LINE)
    assert code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("Line 2 ")
    assert what in last
    assert target.read_text() == "before\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_was_said_stands_in_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(tmp_path, {"id": "x", "turns": [{"speaker": "S1", "text": ["he grabbed my arm"]}]})
    assert code == 1
    assert "grabbed" not in capsys.readouterr().err


def test_bytes_that_are_not_text_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(tmp_path, raw=b"\xff\xfe\n")
    assert code == 1
    assert "Line 1 is not UTF-8" in capsys.readouterr().err


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    code, target = run(tmp_path)
    assert code == 0
    assert target.read_text() == ""


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    os.mkfifo(target)
    with subprocess.Popen(["cat", str(target)], stdout=subprocess.PIPE, text=True) as reader:
        code, _ = run(tmp_path, {"id": "x", "turns": []})
        assert reader.stdout is not None
        assert json.loads(reader.stdout.read())["id"] == "x"
    assert code == 0
    assert target.is_fifo()


def test_a_symlink_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.jsonl"
    (tmp_path / "out.jsonl").symlink_to(real)
    code, target = run(tmp_path, {"id": "x", "turns": []})
    assert code == 0
    assert target.is_symlink()
    assert json.loads(real.read_text())["id"] == "x"


@pytest.mark.parametrize("redirected", [True, False])
def test_standard_output_is_written_to_as_it_is(tmp_path: Path, redirected: bool) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "x", "turns": []}\n')
    out = tmp_path / "told"
    out.write_text("before\n")
    name = tmp_path / "stdout"
    name.symlink_to("/proc/self/fd/1")  # what /dev/stdout is, in a folder of the test's own
    command = [sys.executable, "-P", "-m", "cli", "analyze", str(tmp_path / "in.jsonl"), str(name)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WRITECARE_DATA_DIR": str(tmp_path / "state")}
    with out.open("a") as file:
        stdout = file if redirected else subprocess.PIPE
        done = subprocess.run(command, env=environment, cwd=tmp_path, stdout=stdout, text=True, check=True)
    line = out.read_text().removeprefix("before\n") if redirected else done.stdout
    assert json.loads(line)["id"] == "x"
    assert name.is_symlink()
    assert not (tmp_path / "var").exists()  # state is where the settings say, not where the command was called


def test_a_missing_input_and_a_place_that_cannot_be_written_fail_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "absent.jsonl"), str(tmp_path / "out.jsonl")]) == 1
    assert "absent.jsonl" in capsys.readouterr().err.strip().splitlines()[-1]
    (tmp_path / "in.jsonl").write_text("")
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "no" / "out.jsonl"), "--data", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err.strip().splitlines()[-1].lower()


@pytest.mark.parametrize("arguments", [[], ["one.jsonl"], ["a", "b", "c"], ["a", "b", "--unknown"]])
def test_wrong_use_is_told_apart(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_byte_order_mark_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    bom, line = b"\xef\xbb\xbf", json.dumps(LINE).encode()
    spoken = json.dumps(
        {"id": "tr-9", "turns": [{"speaker": "S1", "text": "one\u2028two\x85three"}]}, ensure_ascii=False
    )
    raw = bom + line + b"\r\n\r\n \t\n" + bom + line.replace(b"tr-1", b"tr-2") + b"\n" + bom + b"\n" + spoken.encode()
    code, target = run(tmp_path, raw=raw + b"\n\n\n")
    assert code == 0
    answers = [json.loads(answer) for answer in target.read_text().split("\n") if answer]
    assert [answer["id"] for answer in answers] == ["tr-1", "tr-2", "tr-9"]
    assert len(answers[2]["turns"]) == 1


def test_a_file_of_empty_lines_holds_no_conversation(tmp_path: Path) -> None:
    code, target = run(tmp_path, raw=b"\xef\xbb\xbf\r\n\n \n")
    assert (code, target.read_bytes()) == (0, b"")


def test_the_number_of_a_bad_line_counts_the_empty_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, target = run(tmp_path, raw=b"\n\xef\xbb\xbf\n" + json.dumps(LINE).encode() + b"\n\nnot json\n")
    assert code == 1
    assert "Line 5 is not JSON" in capsys.readouterr().err
    assert not target.exists()
