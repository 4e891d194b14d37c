"""Behaviour tests of the safeguarding model: each row of the table of capabilities, and a few invariances.

Every report (`./writecare evaluate`) prints the table with the answers of its model version.
"""

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from models.contract.records import Turn
from tests.text_models import CARERS, chance_of_concern, conversation, text_models
from training.augmentation import as_asr_text, first_names, swap_names
from training.behaviour_checks import BEHAVIOUR_CASES, BehaviourCase, run_cases
from training.dataset import read_dataset
from training.report.material import never_held_out

# Cases that version 2.2.0 gets wrong, by the last words of the case. Strict xfail: when a later version gets a case
# right, the test fails and the line must be removed. models/cards/safeguarding.md tells users of these gaps.
KNOWN_MISSES = frozenset(
    {
        "Oh that bruise on her cheek, she bruises easy, I wouldn't worry about it.",
    }
)
DENIALS_MISTAKEN: frozenset[str] = frozenset()
LOST_WITHOUT_PUNCTUATION: frozenset[str] = frozenset()


def known(wrong: bool, *values: Any, name: str) -> Any:
    """A row of a table. If it is listed as wrong, the model must get it wrong until a better version ships."""
    marks = [pytest.mark.xfail(strict=True, reason="known gap of safeguarding 2.3.0")] if wrong else []
    return pytest.param(*values, marks=marks, id=name)


def is_flagged(*lines: str) -> bool:
    """Whether the last line gets a concern, given the lines before it."""
    [assessments] = text_models().safeguarding.score([conversation(*lines)])
    return bool(assessments[-1].concerns)


@pytest.mark.parametrize("row", [known(row.lines[-1] in KNOWN_MISSES, row, name=str(row)) for row in BEHAVIOUR_CASES])
def test_heard_or_left_alone_as_the_table_says(row: BehaviourCase) -> None:
    [told] = run_cases(text_models().safeguarding, [row])
    assert told.flagged == row.must_flag


def test_no_sentence_of_the_table_is_learnt_from() -> None:
    learnt = {turn.text.lower() for item in [*read_dataset(), *never_held_out()] for turn in item.conversation.turns}
    assert [row for row in BEHAVIOUR_CASES if row.lines[-1].lower() in learnt] == []


def test_what_sounds_harmless_by_its_subject_alone_has_a_row_that_must_be_heard() -> None:
    wanted = defaultdict(set)
    for row in BEHAVIOUR_CASES:
        wanted[row.capability].add(row.must_flag)
    named = ("negation", "history", "training talk", "euphemism", "hearsay", "lawful restriction", "banter")
    assert {name: wanted[name] for name in named} == {name: {True, False} for name in named}


@pytest.mark.parametrize(
    ("alarming", "calm"),
    [
        known(calm in DENIALS_MISTAKEN, alarming, calm, name=calm)
        for alarming, calm in (
            ("He hit her.", "He did not hit her, he never touched her."),
            ("There's a big bruise on her arm.", "There isn't a bruise on her arm."),
            ("They've locked her in her room.", "They haven't locked her in, her door is open."),
            ("She says he takes her money.", "She says nobody takes her money."),
        )
    ],
)
def test_a_negation_lowers_the_probability(alarming: str, calm: str) -> None:
    assert chance_of_concern("What happened?", calm) < chance_of_concern("What happened?", alarming)


def test_swapping_the_names_moves_no_more_than_one_probability_in_twenty_by_0_05() -> None:
    dataset = read_dataset()
    names = first_names([item.conversation for item in dataset])
    draw = random.Random(8)
    asked = [item.conversation for item in draw.sample(dataset, 60)]
    swapped = []
    for talk in asked:
        texts = swap_names([turn.text for turn in talk.turns], names, draw)
        turns = tuple(Turn(speaker=turn.speaker, text=text) for turn, text in zip(talk.turns, texts, strict=True))
        swapped.append(talk.model_copy(update={"turns": turns}))
    before, after = (
        [row.scores["any"] for rows in text_models().safeguarding.score(talks) for row in rows]
        for talks in (asked, swapped)
    )
    moved = [abs(old - new) >= 0.05 for old, new in zip(before, after, strict=True)]
    assert sum(moved) / len(moved) <= 0.05


@pytest.mark.parametrize("name", ["Winnie", "Oluwaseun", "Fatima", "Agnieszka", "Craig", "Mohammed", "Wei"])
def test_whoever_is_hurt_is_heard_and_whoever_is_well_is_not_flagged(name: str) -> None:
    assert is_flagged("Go on.", f"{name} told me the carer pushed her over in the bathroom and left her there.")
    assert not is_flagged("Go on.", f"{name} had a lovely time in the garden and ate all of the pudding.")


@pytest.mark.parametrize(
    "row", [known(row.lines[-1] in LOST_WITHOUT_PUNCTUATION, row, name=str(row)) for row in BEHAVIOUR_CASES]
)
def test_case_and_punctuation_do_not_turn_the_answer(row: BehaviourCase) -> None:
    plain = replace(row, lines=tuple(as_asr_text(line) for line in row.lines))
    written, recognised = run_cases(text_models().safeguarding, [row, plain])
    assert written.flagged == recognised.flagged


def test_what_was_said_before_counts() -> None:
    after_fall = chance_of_concern("She fell down the stairs and we left her lying there all night.", "Until six.")
    after_lunch = chance_of_concern("The hairdresser is here all day.", "Until six.")
    assert after_fall != pytest.approx(after_lunch, abs=1e-6)


def test_labels_beside_the_words_are_not_read() -> None:
    item = random.Random(4).choice(read_dataset())
    [known] = text_models().safeguarding.score([item.conversation])
    renamed = item.conversation.model_copy(update={"id": "another", "channel": "call"})
    [asked] = text_models().safeguarding.score([renamed])
    assert [row.scores for row in known] == [row.scores for row in asked]


def test_a_conversation_without_roles_is_read_too() -> None:
    said = "The night carer dragged her out of bed by her hair."
    for participants in (CARERS, ()):
        [[assessment]] = text_models().safeguarding.score([conversation(said, participants=participants)])
        assert assessment.concerns
