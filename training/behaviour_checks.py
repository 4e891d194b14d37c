"""What the safeguarding model must get right, by capability: a table of sentences written for this test.

None of them is in the training data. The behaviour tests check the shipped version row by row, and the report prints
the whole table. Flagged means the same as in service: a concern at the shipped thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.contract.records import Conversation, Participant, Turn
from models.text.safeguarding import SafeguardingModel

TWO_CARERS: Final = (
    Participant(speaker="S1", role="care_worker", name="Ioana"),
    Participant(speaker="S2", role="manager", name="Beverley"),
)


@dataclass(frozen=True)
class BehaviourCase:
    """The last line is scored, after the lines before it. Two people speak in turn."""

    capability: str
    must_flag: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.capability}: {self.lines[-1][:50]}"

    def conversation(self) -> Conversation:
        turns = tuple(Turn(speaker=f"S{at % 2 + 1}", text=line) for at, line in enumerate(self.lines))
        return Conversation(id="c", channel="handover", participants=TWO_CARERS, turns=turns)


@dataclass(frozen=True)
class BehaviourResult:
    """A version's result for a row: whether the last line is flagged, and its probability of any concern."""

    row: BehaviourCase
    flagged: bool
    probability: float

    @property
    def right(self) -> bool:
        return self.flagged == self.row.must_flag


def run_cases(model: SafeguardingModel, rows: Sequence[BehaviourCase]) -> list[BehaviourResult]:
    """The version's result for each row, in order."""
    assessed = [turns[-1] for turns in model.score([row.conversation() for row in rows])]
    return [
        BehaviourResult(row, bool(last.concerns), last.scores["any"]) for row, last in zip(rows, assessed, strict=True)
    ]


def _must_flag(capability: str, *lines: str) -> BehaviourCase:
    return BehaviourCase(capability, must_flag=True, lines=lines)


def _must_not_flag(capability: str, *lines: str) -> BehaviourCase:
    return BehaviourCase(capability, must_flag=False, lines=lines)


# A capability named after harmless conversation (negation, history, …) also has a row that must be flagged:
# a model that never flags anything about training has not understood it.
BEHAVIOUR_CASES: Final[tuple[BehaviourCase, ...]] = (
    _must_flag("disclosure", "You all right, Joan?", "That tall lad pinched my arm and told me to keep my mouth shut."),
    _must_flag(
        "disclosure", "How was the night?", "The agency one slapped Edith across the hand, I was stood right there."
    ),
    _must_flag(
        "euphemism", "How's Gary on the unit?", "He gets a bit heavy-handed with her when he's putting her to bed."
    ),
    _must_flag(
        "euphemism", "Why's she off her food?", "He likes a cuddle with her at night, she goes stiff as a board."
    ),
    _must_not_flag("euphemism", "How's the new cook?", "A bit heavy-handed with the salt, but she's lovely."),
    _must_flag(
        "minimising", "What's that mark?", "Oh that bruise on her cheek, she bruises easy, I wouldn't worry about it."
    ),
    _must_flag(
        "hint", "Do you need any money, Dad?", "My nephew keeps my bank card now and I never see a penny of my pension."
    ),
    _must_flag("hearsay", "Anything from days?", "Win told me the night carer pulls her hair when nobody is about."),
    _must_flag(
        "hearsay", "What did the cleaner want?", "She'd heard from Pam that Les gets pushed back down in his chair."
    ),
    _must_not_flag(
        "hearsay", "Any news?", "They're saying the Laurels is getting a new minibus, I'll believe it when I see it."
    ),
    _must_flag(
        "omission",
        "Did she eat?",
        "Nobody had changed her since last night, she was soaked through and her skin was raw.",
    ),
    _must_flag(
        "self-harm", "How are you in yourself?", "I've been saving my tablets up, I don't want to be here any more."
    ),
    _must_flag(
        "missing",
        "Is Albert with you?",
        "No, his bed's empty and the back door's wide open, we can't find him anywhere.",
    ),
    _must_flag("medicine", "How did the round go?", "I gave Mrs Khan's insulin to Mrs Cain by mistake."),
    _must_flag("restraint", "Where's Stan?", "They've tied him in his chair with a belt so he stops wandering."),
    _must_flag(
        "slavery", "When did you last have a day off?", "He has my passport and says I work until the debt is paid."
    ),
    _must_not_flag("negation", "Anything on her skin?", "No bruises, no marks at all, her skin is lovely."),
    _must_not_flag("negation", "Any falls?", "No falls and nobody hurt, it was a quiet night."),
    _must_flag(
        "negation", "Did she settle?", "No, and it's not the first time he's left her crying on the floor for an hour."
    ),
    _must_not_flag(
        "training talk", "How was the course?", "Good, we did a role play where the carer shouts at a resident."
    ),
    _must_not_flag(
        "training talk", "What did the trainer say?", "If you see anyone being hit you report it the same day."
    ),
    _must_flag(
        "training talk", "How was the course?", "It made me think. I've seen Dean drag Rita along by her wrist."
    ),
    _must_not_flag(
        "fiction", "What are you watching?", "A murder thing, the butler poisoned the old lady for her money."
    ),
    _must_not_flag(
        "history", "What was school like?", "Oh, seventy years ago the teachers caned us, we laugh about it now."
    ),
    _must_not_flag("history", "Has she always been nervous?", "Since the war, they were bombed out when she was six."),
    _must_flag("history", "Has he always been nervous?", "Only since Colin came on nights, he says Colin thumps him."),
    _must_not_flag("banter", "Who won at cards?", "Frank did, he robs me blind every week, the old rogue."),
    _must_flag(
        "banter", "What's so funny?", "They call him Stinky over the tannoy and he cries, but it's only banter."
    ),
    _must_not_flag(
        "lawful restriction", "Is the door locked?", "Yes, his DoLS was renewed on Monday and his daughter agreed it."
    ),
    _must_flag(
        "lawful restriction", "Is there a DoLS?", "No, we just lock her in after tea because she gets in the way."
    ),
    _must_not_flag("plain sense", "What's for tea?", "Battered fish, and I could murder a cup of tea."),
    _must_not_flag("routine", "Morning.", "Morning. Everybody's up, washed and having their breakfast."),
    _must_not_flag("question only", "I'm ringing about Mum.", "Has anybody hurt her?"),
    _must_not_flag("acknowledgement", "He shoved her into the wall.", "Okay, thank you for telling me."),
)
