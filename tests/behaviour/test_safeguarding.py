"""What the safeguarding model must get right, capability by capability, on sentences written for this table alone.

None of them stands in the training data. Heard means what it means in service: a concern at the shipped thresholds.
"""

import random
from dataclasses import dataclass
from typing import Any

import pytest

from models.records import Turn
from tests.readers import CARERS, chance_of_concern, conversation, text_models
from training.augmentation import as_recognised, first_names, swap_names
from training.dataset import read_dataset

# What version 1.1.0 is known to get wrong, by the last words of the case. Strict: a test turns red when a later version
# gets it right, and the line is taken out; models/cards/safeguarding.md tells users of these gaps.
DEAF_TO = frozenset(
    {
        "The agency one slapped Edith across the hand, I was stood right there.",
        "I gave Mrs Khan's insulin to Mrs Cain by mistake.",
    }
)
DENIALS_MISTAKEN = frozenset(
    {"He did not hit her, he never touched her.", "They haven't locked her in, her door is open."}
)
LOST_WITHOUT_PUNCTUATION = frozenset({"Win told me the night carer pulls her hair when nobody is about."})


def known(wrong: bool, *values: Any, name: str) -> Any:
    """A row of a table; where it is known to be wrong it must be, until a better version comes."""
    marks = [pytest.mark.xfail(strict=True, reason="known gap of safeguarding 1.1.0")] if wrong else []
    return pytest.param(*values, marks=marks, id=name)


@dataclass(frozen=True)
class Case:
    """The last line is judged, after the lines before it."""

    capability: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.capability}: {self.lines[-1][:50]}"


HEARD = [
    Case("disclosure", ("You all right, Joan?", "That tall lad pinched my arm and told me to keep my mouth shut.")),
    Case(
        "disclosure", ("How was the night?", "The agency one slapped Edith across the hand, I was stood right there.")
    ),
    Case("euphemism", ("How's Gary on the unit?", "He gets a bit heavy-handed with her when he's putting her to bed.")),
    Case(
        "minimising", ("What's that mark?", "Oh that bruise on her cheek, she bruises easy, I wouldn't worry about it.")
    ),
    Case(
        "hint",
        ("Do you need any money, Dad?", "My nephew keeps my bank card now and I never see a penny of my pension."),
    ),
    Case("hearsay", ("Anything from days?", "Win told me the night carer pulls her hair when nobody is about.")),
    Case(
        "omission",
        ("Did she eat?", "Nobody had changed her since last night, she was soaked through and her skin was raw."),
    ),
    Case(
        "self-harm", ("How are you in yourself?", "I've been saving my tablets up, I don't want to be here any more.")
    ),
    Case(
        "missing",
        ("Is Albert with you?", "No, his bed's empty and the back door's wide open, we can't find him anywhere."),
    ),
    Case("medicine", ("How did the round go?", "I gave Mrs Khan's insulin to Mrs Cain by mistake.")),
    Case("restraint", ("Where's Stan?", "They've tied him in his chair with a belt so he stops wandering.")),
    Case(
        "slavery", ("When did you last have a day off?", "He has my passport and says I work until the debt is paid.")
    ),
]

QUIET = [
    Case("negation", ("Anything on her skin?", "No bruises, no marks at all, her skin is lovely.")),
    Case("negation", ("Any falls?", "No falls and nobody hurt, it was a quiet night.")),
    Case("training talk", ("How was the course?", "Good, we did a role play where the carer shouts at a resident.")),
    Case("training talk", ("What did the trainer say?", "If you see anyone being hit you report it the same day.")),
    Case("fiction", ("What are you watching?", "A murder thing, the butler poisoned the old lady for her money.")),
    Case("history", ("What was school like?", "Oh, seventy years ago the teachers caned us, we laugh about it now.")),
    Case("banter", ("Who won at cards?", "Frank did, he robs me blind every week, the old rogue.")),
    Case(
        "lawful restriction", ("Is the door locked?", "Yes, his DoLS was renewed on Monday and his daughter agreed it.")
    ),
    Case("plain sense", ("What's for tea?", "Battered fish, and I could murder a cup of tea.")),
    Case("routine", ("Morning.", "Morning. Everybody's up, washed and having their breakfast.")),
    Case("question only", ("I'm ringing about Mum.", "Has anybody hurt her?")),
    Case("acknowledgement", ("He shoved her into the wall.", "Okay, thank you for telling me.")),
]


def is_flagged(*lines: str) -> bool:
    """Whether the last line gets any concern, after the lines before it."""
    [assessments] = text_models().safeguarding.score([conversation(*lines)])
    return bool(assessments[-1].concerns)


@pytest.mark.parametrize("case", [known(case.lines[-1] in DEAF_TO, case, name=str(case)) for case in HEARD])
def test_heard(case: Case) -> None:
    assert is_flagged(*case.lines)


@pytest.mark.parametrize("case", QUIET, ids=str)
def test_quiet(case: Case) -> None:
    assert not is_flagged(*case.lines)


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
    "case",
    [known(case.lines[-1] in LOST_WITHOUT_PUNCTUATION, case, name=str(case)) for case in [*HEARD, *QUIET]],
)
def test_case_and_punctuation_do_not_turn_the_answer(case: Case) -> None:
    assert is_flagged(*case.lines) == is_flagged(*(as_recognised(line) for line in case.lines))


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
