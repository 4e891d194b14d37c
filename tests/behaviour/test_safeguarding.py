"""What the safeguarding model must get right, capability by capability, on sentences written for this table alone.

None of them stands in the training data. `heard` and `quiet` are judged against the same line: more likely than not.
"""

import random
from dataclasses import dataclass

import pytest

from tests.readers import chance_of_concern, conversation, text_models
from training.augmentation import as_recognised
from training.dataset import read_dataset

_LINE = 0.5


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


@pytest.mark.parametrize("case", HEARD, ids=str)
def test_heard(case: Case) -> None:
    assert chance_of_concern(*case.lines) >= _LINE


@pytest.mark.parametrize("case", QUIET, ids=str)
def test_quiet(case: Case) -> None:
    assert chance_of_concern(*case.lines) < _LINE


@pytest.mark.parametrize(
    ("alarming", "calm"),
    [
        ("He hit her.", "He did not hit her, he never touched her."),
        ("There's a big bruise on her arm.", "There isn't a bruise on her arm."),
        ("They've locked her in her room.", "They haven't locked her in, her door is open."),
        ("She says he takes her money.", "She says nobody takes her money."),
    ],
)
def test_a_negation_lowers_the_probability(alarming: str, calm: str) -> None:
    assert chance_of_concern("What happened?", calm) < chance_of_concern("What happened?", alarming)


SWAPPED = [
    ("Winnie", "Oluwaseun", "Fatima", "Agnieszka", "Jean"),
    ("Craig", "Mohammed", "Kwame", "Rhys", "Wei"),
]


@pytest.mark.parametrize("names", SWAPPED, ids=lambda names: names[0])
@pytest.mark.parametrize(
    "said",
    [
        "{0} told me the carer pushed her over in the bathroom and left her there.",
        "{0} had a lovely time in the garden and ate all of the pudding.",
        "I've not seen {0} since tea and the front door was open.",
    ],
)
def test_whose_name_it_is_changes_nothing(said: str, names: tuple[str, ...]) -> None:
    chances = [chance_of_concern("Go on.", said.format(name)) for name in names]
    assert max(chances) - min(chances) < 0.05


@pytest.mark.parametrize("case", [*HEARD, *QUIET], ids=str)
def test_case_and_punctuation_do_not_turn_the_answer(case: Case) -> None:
    written = chance_of_concern(*case.lines) >= _LINE
    recognised = chance_of_concern(*(as_recognised(line) for line in case.lines)) >= _LINE
    assert written == recognised


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
    [[with_roles]] = text_models().safeguarding.score([conversation(said)])
    [[without]] = text_models().safeguarding.score([conversation(said, participants=())])
    assert with_roles.scores["any"] >= _LINE
    assert without.scores["any"] >= _LINE
