"""Augments a conversation with harmless changes: other names, other spelling, unknown roles, cut short.

Applied only to training conversations, newly in each epoch. Each change teaches an invariance: a name says nothing
about harm; a transcript may lack punctuation and case; a call's roles may be unknown; a chat may be assessed before it
ends; a message may have no other messages around it.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.contract.records import Conversation, Participant, Turn

# Names that are also words: swapping them would damage sentences.
_ALSO_WORDS: Final = frozenset(
    re.split(
        r"\s+",
        """bill mark will hope grace joy rose may june april dawn pat sue frank grant jack rob art gene dot daisy ivy
        olive violet ray drew nick bob josh max guy dean mercy faith lee mike rick miles chase ginger precious""",
    )
)

_MISSPELT_WORDS: Final = 0.08  # share of the words of a misspelt conversation
_SHORTEST_MISSPELT: Final = 4  # letters


@dataclass(frozen=True)
class AugmentationRates:
    """How often each change is made."""

    names: float = 0.3
    recogniser: float = 0.15
    misspelt: float = 0.0
    no_roles: float = 0.15
    cut_short: float = 0.2
    excerpt: float = 0.1


def first_names(conversations: Sequence[Conversation]) -> tuple[str, ...]:
    """The first names of participants, sorted, without names that are also words. Names are swapped among them."""
    found = {person.name for c in conversations for person in c.participants if person.name}
    return tuple(sorted(name for name in found if name.isalpha() and name.lower() not in _ALSO_WORDS))


def augment(
    conversation: Conversation, names: Sequence[str], chances: AugmentationRates, rng: random.Random
) -> tuple[Conversation, int]:
    """Returns a variant, and the number of its first turn in the original, so that labels stay with their turns.

    The variant has all turns unless it is cut short or is an excerpt of one to three turns.
    """
    texts = [turn.text for turn in conversation.turns]
    if rng.random() < chances.names:
        texts = swap_names(texts, names, rng)
    if rng.random() < chances.recogniser:
        texts = [as_asr_text(text) for text in texts]
    if chances.misspelt and rng.random() < chances.misspelt:
        texts = [misspelt(text, rng) for text in texts]
    participants: tuple[Participant, ...] = conversation.participants
    if rng.random() < chances.no_roles:
        participants = ()
    first, last = 0, len(texts)
    which = rng.random()
    if which < chances.excerpt:
        first = rng.randrange(len(texts))
        last = first + rng.randint(1, 3)
    elif which < chances.excerpt + chances.cut_short:
        last = rng.randint(1, len(texts))
    turns = tuple(
        Turn(speaker=turn.speaker, text=text)
        for turn, text in zip(conversation.turns[first:last], texts[first:last], strict=True)
    )
    return conversation.model_copy(update={"participants": participants, "turns": turns}), first


def swap_names(texts: Sequence[str], names: Sequence[str], rng: random.Random) -> list[str]:
    """Replaces every known first name by another one, the same in all texts, in the case in which it was written."""
    known = {name.lower() for name in names}
    swapped: dict[str, str] = {}

    def another(match: re.Match[str]) -> str:
        word = match.group()
        if word.lower() not in known:
            return word
        name = swapped.setdefault(word.lower(), rng.choice(names))
        return name if word[0].isupper() else name.lower()

    return [re.sub(r"[^\W\d_]+", another, text) for text in texts]


def as_asr_text(text: str) -> str:
    """Lower case without punctuation, the output of a speech recogniser without a punctuation model."""
    return re.sub(r"[^\w\s']", "", text.lower())


def misspelt(text: str, rng: random.Random) -> str:
    """At random omits, doubles or swaps letters inside a word, as in typing errors, dialect or new words."""
    return re.sub(r"[^\W\d_]+", lambda match: _misspelt_word(match.group(), rng), text)


def _misspelt_word(word: str, rng: random.Random) -> str:
    if len(word) < _SHORTEST_MISSPELT or rng.random() >= _MISSPELT_WORDS:
        return word
    at = rng.randrange(1, len(word) - 1)
    change = rng.choice([word[at + 1] + word[at], word[at] + word[at] + word[at + 1], word[at + 1]])
    return word[:at] + change + word[at + 2 :]
