"""JSON lines files as other programs write them."""

import json
from pathlib import Path

import pytest

from models.contract.json_lines import nonblank_lines, read_json_lines
from training.dataset import read_dataset
from training.evaluate_ami import read_meetings

BOM = b"\xef\xbb\xbf"


def test_marks_line_ends_and_empty_lines_are_passed_over_and_numbers_kept(tmp_path: Path) -> None:
    raw = BOM + b'{"a": 1}\r\n\r\n' + BOM + b'\n \t\n{"a": 2}\n' + BOM + b'{"a": 3}'
    file = tmp_path / "lines.jsonl"
    file.write_bytes(raw)
    assert read_json_lines(file) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [number for number, _ in nonblank_lines(raw.splitlines(keepends=True))] == [1, 5, 6]


def test_a_line_end_of_unicode_within_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    text = "one\u2028two\u2029three\x85four"
    file.write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_json_lines(file) == [{"text": text}]


def test_what_is_no_json_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text("{}\nnot json\n")
    with pytest.raises(ValueError, match="Expecting value"):
        read_json_lines(file)


def test_training_and_evaluation_read_such_files_too(tmp_path: Path) -> None:
    corpus = Path(__file__).parents[3] / "training" / "data" / "care_conversations"
    line = sorted(corpus.glob("train-*.jsonl"))[0].read_bytes().split(b"\n")[0]
    (tmp_path / "some.jsonl").write_bytes(BOM + line + b"\r\n\r\n" + BOM + b"\n")
    assert len(read_dataset(tmp_path)) == 1
    meeting = {"meeting_id": "m", "utterances": [], "has_links": True, "summaries": []}
    (tmp_path / "ami").write_bytes(BOM + b"\n" + BOM + json.dumps(meeting | {"has_links": False}).encode() + b"\r\n\n")
    assert read_meetings(tmp_path / "ami") == []
