"""What the safeguarding model must get right, capability by capability: a table of sentences written for it alone.

None of them stands in the training data. The behaviour tests ask the shipped version row by row, and the report
prints the whole table. Heard means what it means in service: a concern at the shipped thresholds.
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
class Row:
    """The last line is judged, after the lines before it; two people take turns."""

    capability: str
    heard: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.capability}: {self.lines[-1][:50]}"

    def conversation(self) -> Conversation:
        turns = tuple(Turn(speaker=f"S{at % 2 + 1}", text=line) for at, line in enumerate(self.lines))
        return Conversation(id="c", channel="handover", participants=TWO_CARERS, turns=turns)


@dataclass(frozen=True)
class Told:
    """What a version made of a row: whether the last line is flagged, and its probability of any concern."""

    row: Row
    flagged: bool
    probability: float

    @property
    def right(self) -> bool:
        return self.flagged == self.row.heard


def ask(model: SafeguardingModel, rows: Sequence[Row]) -> list[Told]:
    """The version's answer to each row, in order."""
    assessed = [turns[-1] for turns in model.score([row.conversation() for row in rows])]
    return [Told(row, bool(last.concerns), last.scores["any"]) for row, last in zip(rows, assessed, strict=True)]


def _heard(capability: str, *lines: str) -> Row:
    return Row(capability, heard=True, lines=lines)


def _quiet(capability: str, *lines: str) -> Row:
    return Row(capability, heard=False, lines=lines)


# Where a capability is named by the harmless talk (negation, history, …), it has a row that must be heard as well:
# a model that never hears anything about training is not one that understands it.
CAPABILITIES: Final[tuple[Row, ...]] = (
    _heard("disclosure", "You all right, Joan?", "That tall lad pinched my arm and told me to keep my mouth shut."),
    _heard(
        "disclosure", "How was the night?", "The agency one slapped Edith across the hand, I was stood right there."
    ),
    _heard("euphemism", "How's Gary on the unit?", "He gets a bit heavy-handed with her when he's putting her to bed."),
    _heard("euphemism", "Why's she off her food?", "He likes a cuddle with her at night, she goes stiff as a board."),
    _quiet("euphemism", "How's the new cook?", "A bit heavy-handed with the salt, but she's lovely."),
    _heard(
        "minimising", "What's that mark?", "Oh that bruise on her cheek, she bruises easy, I wouldn't worry about it."
    ),
    _heard(
        "hint", "Do you need any money, Dad?", "My nephew keeps my bank card now and I never see a penny of my pension."
    ),
    _heard("hearsay", "Anything from days?", "Win told me the night carer pulls her hair when nobody is about."),
    _heard(
        "hearsay", "What did the cleaner want?", "She'd heard from Pam that Les gets pushed back down in his chair."
    ),
    _quiet(
        "hearsay", "Any news?", "They're saying the Laurels is getting a new minibus, I'll believe it when I see it."
    ),
    _heard(
        "omission",
        "Did she eat?",
        "Nobody had changed her since last night, she was soaked through and her skin was raw.",
    ),
    _heard(
        "self-harm", "How are you in yourself?", "I've been saving my tablets up, I don't want to be here any more."
    ),
    _heard(
        "missing",
        "Is Albert with you?",
        "No, his bed's empty and the back door's wide open, we can't find him anywhere.",
    ),
    _heard("medicine", "How did the round go?", "I gave Mrs Khan's insulin to Mrs Cain by mistake."),
    _heard("restraint", "Where's Stan?", "They've tied him in his chair with a belt so he stops wandering."),
    _heard(
        "slavery", "When did you last have a day off?", "He has my passport and says I work until the debt is paid."
    ),
    _quiet("negation", "Anything on her skin?", "No bruises, no marks at all, her skin is lovely."),
    _quiet("negation", "Any falls?", "No falls and nobody hurt, it was a quiet night."),
    _heard(
        "negation", "Did she settle?", "No, and it's not the first time he's left her crying on the floor for an hour."
    ),
    _quiet("training talk", "How was the course?", "Good, we did a role play where the carer shouts at a resident."),
    _quiet("training talk", "What did the trainer say?", "If you see anyone being hit you report it the same day."),
    _heard("training talk", "How was the course?", "It made me think. I've seen Dean drag Rita along by her wrist."),
    _quiet("fiction", "What are you watching?", "A murder thing, the butler poisoned the old lady for her money."),
    _quiet("history", "What was school like?", "Oh, seventy years ago the teachers caned us, we laugh about it now."),
    _quiet("history", "Has she always been nervous?", "Since the war, they were bombed out when she was six."),
    _heard("history", "Has he always been nervous?", "Only since Colin came on nights, he says Colin thumps him."),
    _quiet("banter", "Who won at cards?", "Frank did, he robs me blind every week, the old rogue."),
    _heard("banter", "What's so funny?", "They call him Stinky over the tannoy and he cries, but it's only banter."),
    _quiet(
        "lawful restriction", "Is the door locked?", "Yes, his DoLS was renewed on Monday and his daughter agreed it."
    ),
    _heard("lawful restriction", "Is there a DoLS?", "No, we just lock her in after tea because she gets in the way."),
    _quiet("plain sense", "What's for tea?", "Battered fish, and I could murder a cup of tea."),
    _quiet("routine", "Morning.", "Morning. Everybody's up, washed and having their breakfast."),
    _quiet("question only", "I'm ringing about Mum.", "Has anybody hurt her?"),
    _quiet("acknowledgement", "He shoved her into the wall.", "Okay, thank you for telling me."),
)
