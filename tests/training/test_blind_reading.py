"""Blind reading: readers cannot tell which side is ours, and the key decodes their preferences."""

import json
from pathlib import Path

import pytest

from training.blind_reading import Pair, draw_pairs, majority, preference, read_sheet, score_table, sheet_text
from training.dataset import LabelledConversation, read_dataset


def _laid(pairs: int, seed: int = 3) -> tuple[list[LabelledConversation], list[Pair]]:
    items = read_dataset()[:60]
    return items, draw_pairs(items, [f"What {item.conversation.id} was about." for item in items], pairs, seed)


def test_the_same_seed_draws_the_same_pairs_and_sides_and_another_seed_others() -> None:
    _, once = _laid(20)
    _, again = _laid(20)
    _, other = _laid(20, seed=4)
    assert [(p.item.conversation.id, p.ours) for p in once] == [(p.item.conversation.id, p.ours) for p in again]
    assert [(p.item.conversation.id, p.ours) for p in once] != [(p.item.conversation.id, p.ours) for p in other]


def test_both_sides_are_ours_now_and_then_and_no_conversation_stands_twice() -> None:
    _, pairs = _laid(40)
    assert {pair.ours for pair in pairs} == {"A", "B"}
    assert len({pair.item.conversation.id for pair in pairs}) == 40


def test_the_side_that_the_key_names_holds_the_summary_and_the_other_the_longest_turns() -> None:
    _, pairs = _laid(10)
    for pair in pairs:
        other = "B" if pair.ours == "A" else "A"
        assert pair.texts[pair.ours] == f"What {pair.item.conversation.id} was about."
        longest = max((turn.text for turn in pair.item.conversation.turns), key=len)
        assert longest in pair.texts[other]


def test_what_readers_read_holds_the_words_and_both_texts_but_no_key() -> None:
    _, [pair] = _laid(1)
    text = sheet_text([pair])
    assert all(turn.text in text for turn in pair.item.conversation.turns)
    assert all(f"**{side}.** {pair.texts[side]}" in text for side in "AB")
    assert "ours" not in text
    assert pair.item.summary not in text


def test_preference_counts_by_the_key_and_leaves_pairs_without_one_out() -> None:
    found = preference({"1": "A", "2": "B", "3": "A", "4": "A"}, {"1": "A", "2": "B", "3": "B", "4": "="})
    assert (found.preferred, found.other, found.neither) == (2, 1, 1)
    assert found.share == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)  # Clopper and Pearson, 2 of 3


@pytest.mark.parametrize("verdicts", [{"1": "C"}, {"9": "A"}])
def test_a_verdict_that_is_no_side_or_of_no_pair_is_refused(verdicts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="write A, B or ="):
        preference({"1": "A"}, verdicts)


def test_several_readers_of_a_pair_count_once() -> None:
    sheets = [{"1": "A", "2": "B"}, {"1": "A", "2": "A"}, {"1": "B"}]
    assert majority(sheets) == {"1": "A", "2": "="}


def test_a_sheet_is_read_as_it_was_filled_and_blank_rows_are_left_out(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("pair,preferred\n1,a\n2,\n3, B \n4,=\n", encoding="utf-8")
    assert read_sheet(sheet) == {"1": "A", "3": "B", "4": "="}


def test_the_table_has_a_row_a_reader_and_one_for_most_of_them() -> None:
    key = json.loads('{"1": "A", "2": "B"}')
    table = score_table(key, {"first": {"1": "A", "2": "B"}, "second": {"1": "A"}})
    assert "| first | 2 | 0 | 0 | 1.00 (0.16 to 1.00) |" in table
    assert "| most of them | 2 | 0 | 0 |" in table
