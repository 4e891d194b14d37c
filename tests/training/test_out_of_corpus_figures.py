"""Figures on data outside the corpora: no model is trained on this table; which answers count as correct."""

from collections import Counter

import numpy as np

from models.contract.records import CATEGORIES
from tests.text_models import text_models
from training.dataset import NEVER_HELD_OUT, read_dataset
from training.out_of_corpus_figures import HARMLESS, PlainLine, plain_figures, plain_lines
from training.report.material import held_out, load_corpus
from training.report.out_of_corpus_section import outside_blocks
from training.unseen_style_figures import left_out_figures


def test_the_table_has_twenty_disclosures_a_category_and_as_many_harmless_lines_as_ten() -> None:
    counted = Counter(line.category for line in plain_lines())
    assert set(counted) == {*CATEGORIES, HARMLESS}
    assert min(counted[name] for name in CATEGORIES) >= 20
    assert counted[HARMLESS] >= 190


def test_no_line_of_the_table_is_learnt_from() -> None:
    items = [*read_dataset(), *read_dataset(*NEVER_HELD_OUT)]
    learnt = {_words(turn.text) for item in items for turn in item.conversation.turns if len(turn.text.split()) > 3}
    assert [line.text for line in plain_lines() if _words(line.text) in learnt] == []


def test_a_disclosure_counts_as_flagged_and_as_right_only_in_its_category() -> None:
    said = "The carer punched him in the face and kicked him."
    lines = [
        PlainLine("physical_abuse", "talk", said),
        PlainLine("missing_person", "talk", said),
        PlainLine(HARMLESS, "talk", "What is for tea?"),
    ]
    found = plain_figures(text_models().safeguarding, lines)
    assert found["disclosures_flagged"]["value"] == 1.0
    assert found["disclosures_in_their_category"]["value"] == 0.5
    assert found["harmless_lines_flagged"]["value"] == 0.0


def test_left_out_styles_are_judged_by_what_the_others_taught() -> None:
    known = load_corpus()[0]
    answers = held_out(known)
    rows = left_out_figures(answers, known.items, ("hard_conversations",), 0.05)
    assert [row["style"] for row in rows] == ["all of them", "hard_conversations"]
    hard = np.asarray([known.items[at].style == "hard_conversations" for at in answers.conversation])
    assert rows[0]["turns"] == int(hard.sum())
    assert rows[0]["critical_turns_flagged_or_unsure"]["value"] >= rows[0]["critical_turns_flagged"]["value"]
    page = "\n".join(outside_blocks({"plain_lines": _no_lines(), "real_talk": [], "left_out": rows}))
    assert "| all of them | hard_conversations |" in page
    assert "--public DIR" in page


def _no_lines() -> dict[str, object]:
    figure = {"value": 1.0, "low": 1.0, "high": 1.0}
    names = ("disclosures_flagged", "disclosures_in_their_category", "harmless_lines_flagged")
    return {"disclosures": 1, "harmless_lines": 1, "parts": [], **dict.fromkeys(names, figure)}


def _words(text: str) -> str:
    return " ".join(text.lower().split())
