"""Tests that the table of ASVS requirements is complete and that every test and file it names exists."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent
TABLE: Final = ROOT / "docs" / "security-asvs.md"
STATES: Final = ("met", "partly", "open", "not applicable")
# The number of level 1 and level 2 requirements in each chapter of ASVS 5.0.0.
OF_CHAPTERS: Final = {
    1: 27, 2: 11, 3: 19, 4: 10, 5: 9, 6: 35, 7: 18, 8: 7, 9: 7, 10: 29, 11: 14, 12: 9, 13: 13, 14: 9, 15: 13, 16: 16,
    17: 7,
}  # fmt: skip
_ROW: Final = re.compile(r"^\| \d+\.\d+\.\d+ \|.*$", re.MULTILINE)
_QUOTED: Final = re.compile(r"`([^`]+)`")
_TEST: Final = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
_FILE: Final = re.compile(r"[\w./-]+\.(?:py|md|sql|toml|lock)")


class Row(NamedTuple):
    """One requirement."""

    number: str
    level: str
    subject: str
    state: str
    reason: str

    def tests(self) -> list[tuple[str, str]]:
        """The file and the function of each test that the row names."""
        return [(found[1], found[2]) for quoted in self._quoted() if (found := _TEST.fullmatch(quoted))]

    def files(self) -> list[str]:
        """The other files that it names."""
        return [quoted for quoted in self._quoted() if _FILE.fullmatch(quoted)]

    def _quoted(self) -> list[str]:
        return _QUOTED.findall(self.reason)


def read_rows() -> list[Row]:
    """All rows of the table, in order."""
    lines = _ROW.findall(TABLE.read_text())
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


ROWS: Final = read_rows()
each_row: Final = pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])


@cache
def functions_of(file: str) -> frozenset[str]:
    """The names of the test functions in the file; none if the file does not exist."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_requirement_stands_in_the_table_once() -> None:
    assert [number for number, times in Counter(row.number for row in ROWS).items() if times > 1] == []
    assert Counter(int(row.number.split(".")[0]) for row in ROWS) == OF_CHAPTERS
    assert len(ROWS) == 253


def test_the_rows_follow_their_numbers() -> None:
    numbers = [[int(part) for part in row.number.split(".")] for row in ROWS]
    assert numbers == sorted(numbers)


def test_the_counts_of_states_are_those_of_the_rows() -> None:
    counted = Counter(row.state for row in ROWS)
    text = TABLE.read_text()
    said = {state: re.search(rf"^\| {state} \| [^|]+ \| (\d+) \|$", text, re.MULTILINE) for state in STATES}
    assert {state: int(found[1]) for state, found in said.items() if found} == {
        state: counted[state] for state in STATES
    }


@each_row
def test_a_row_has_a_level_a_short_subject_a_known_state_and_a_reason(row: Row) -> None:
    assert row.level in ("1", "2")
    assert 3 <= len(row.subject.split()) <= 10
    assert row.state in STATES
    assert row.reason


@each_row
def test_every_test_and_file_that_a_row_names_exists(row: Row) -> None:
    assert [f"{file}::{name}" for file, name in row.tests() if name not in functions_of(file)] == []
    assert [file for file in row.files() if not (ROOT / file).is_file()] == []
    assert [quoted for quoted in _QUOTED.findall(row.reason) if "::" in quoted and not _TEST.fullmatch(quoted)] == []


@each_row
def test_what_is_met_or_partly_names_a_test_or_a_file(row: Row) -> None:
    if row.state in ("met", "partly"):
        assert row.tests() or row.files()
    else:
        assert len(row.reason.split()) >= 4, "say why"
