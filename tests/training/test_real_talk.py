"""Real conversations from public sets: read and split; a text with a word of real harm never counts as harmless."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from training.dataset import NEVER_HELD_OUT, read_dataset
from training.real_talk import mentions_harm, read_real_talk
from training.real_talk_mixing import choose_excerpts, insert_lines

SAID = """[doctor] hi , how are you ?
[patient] my knee hurts and it is swollen .
[doctor] since when ?
[patient] i fell ."""


def public(folder: Path) -> Path:
    """A folder of public sets with only one set, which has two consultations in each split."""
    (folder / "aci_bench").mkdir(parents=True)
    for file in ("train.csv", "valid.csv", "clinicalnlp_taskB_test1.csv"):
        with (folder / "aci_bench" / file).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["encounter_id", "dialogue"])
            writer.writeheader()
            writer.writerows({"encounter_id": f"{file}{at}", "dialogue": SAID} for at in range(2))
    return folder


def test_a_consultation_is_read_as_it_would_be_written_and_absent_sets_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [talk] = read_real_talk(public(tmp_path))
    assert (talk.name, len(talk.learn), len(talk.held_out)) == ("aci", 2, 4)
    texts = [turn.text for turn in talk.learn[0].conversation.turns]
    assert texts == ["hi, how are you?", "my knee hurts and it is swollen.", "since when?", "i fell."]
    assert "qmsum is not in the folder" in capsys.readouterr().err


def test_a_turn_with_a_word_of_real_harm_is_unknown_and_the_others_are_harmless(tmp_path: Path) -> None:
    [talk] = read_real_talk(public(tmp_path))
    unknown = np.isnan(talk.learn[0].concerns).all(axis=1)
    assert unknown.tolist() == [False, False, False, True]
    assert not talk.learn[0].concerns[:3].any()
    assert mentions_harm("He threatened to kill himself.")
    assert not mentions_harm("The swelling is painful and I am tired.")


def test_excerpts_are_chosen_alike_each_time_and_none_twice(tmp_path: Path) -> None:
    sets = read_real_talk(public(tmp_path))
    first, again = (choose_excerpts(sets, 20, 1) for _ in range(2))
    assert [one.conversation.id for one in first] == [one.conversation.id for one in again]
    taken = {one.conversation.id for one in first}
    others = choose_excerpts(sets, 20, 1, taken)
    assert others
    assert not taken & {one.conversation.id for one in others}


def test_a_line_put_into_real_talk_keeps_its_labels_and_moves_no_other(tmp_path: Path) -> None:
    [talk] = read_real_talk(public(tmp_path))
    lines = [
        item for item in read_dataset(*NEVER_HELD_OUT) if len(item.conversation.turns) == 1 and item.concerns.any()
    ][:3]
    mixed = insert_lines(talk.learn * 10, lines, random.Random(2))
    longer = [item for item in mixed if len(item.conversation.turns) == 5]
    assert 0 < len(longer) < len(mixed)
    for item in longer:
        [at] = np.flatnonzero(np.nan_to_num(item.concerns[:, -1]))
        assert item.conversation.turns[int(at)].text in {line.conversation.turns[0].text for line in lines}
        assert int(item.severity[at]) >= 0
        assert np.isnan(item.concerns[:, 0]).sum() == 1
