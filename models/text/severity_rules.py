"""What the corpus guide says of severity in so many words, as floors and one ceiling over what the model read.

The severity of a turn comes from a trained layer. Where a concern's category and the turn's own words settle that it
cannot be less (an act of violence is named; a way to die is at hand), the rule holds against the layer. Each rule is
checked against the labels of all corpora; the figures, and what was not made a rule, stand in docs/decisions/0047.
No rule raises or drops a concern.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.contract.records import SEVERITIES, Category, Concern, Conversation, Severity, TurnAssessment


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_PERSON: Final = r"(?:me|him|her|them|us)"
_VIOLENCE: Final = _words(
    r"(?<!never )(?<!n't )(?<!not )(?:"
    r"hit(?:s|ting)?(?!\s+(?:his|her|my|their|the)\s+(?:head|face|hip|knee|elbow|arm|leg|back|floor|ground|wall|table)\b)"
    r"|slap(?:s|ped|ping)?|smack(?:s|ed|ing)?|punch(?:es|ed|ing)?"
    r"|kick(?:s|ed|ing)?|push(?:es|ed|ing)(?!\s+(?:against|up|for)\b)|bash(?:es|ed|ing)|thump(?:s|ed|ing)?|headbutt\w*"
    rf"|beat(?:s|en|ing)?\s+(?:{_PERSON}|up)|strangl\w+|throttl\w+|pinch(?:es|ed|ing)|stamp(?:s|ed|ing)\s+on"
    rf"|(?:chok(?:es|ed|ing)|bit(?:es)?|burn(?:s|ed|t))\s+{_PERSON}|rap(?:ed|es|ing)|sexually\s+assault\w*)"
)
_CLOTHES_OR_BODY: Final = (
    r"(?:pyjamas?|pjs?|nightie|nightdress|nightgown|skirt|dress|top|bra|knickers|pants|trousers|jumper|blouse|blanket|"
    r"covers?|legs|breasts?|chest|privates)"
)
_MOLESTING: Final = _words(
    rf"hands?\s+(?:\w+\s+){{0,2}}(?:up|under|down|inside|between|in)\s+(?:\w+(?:'s)?\s+){{0,2}}{_CLOTHES_OR_BODY}"
    rf"|grop(?:es|ed|ing)|molest\w*|rubs?\s+himself|inside\s+{_PERSON}"
    rf"|touch(?:es|ed|ing)\s+{_PERSON}\s+(?:down|between|under)|made\s+{_PERSON}\s+touch"
)
_WAY_TO_DIE: Final = _words(
    r"tablets?|pills?|insulin|paracetamol|morphine|patches|rope|noose|blade|razor|knife|cord|gun|boxes"
    r"|sertraline|amitriptyline|diazepam"
)
_AT_HAND: Final = _words(
    r"sav(?:ed|ing)|put(?:ting)?\s+(?:\w+\s+)?by|kept\s+back|hoard\w*|stash\w*|stockpil\w*|count(?:ed|ing)|lined\s+up"
    r"|swallowed|taken|took|noose"
)
_LAST_WORDS: Final = _words(
    r"end(?:ing)?\s+it|finish(?:ing)?\s+it|kill(?:ing)?\s+(?:my|him|her)self|(?:not|won't|shan't)\s+be\s+here"
    r"|take\s+(?:them|the\s+lot|it\s+all|all\s+of\s+them)|good-?bye"
)
_SOON: Final = _words(
    r"tonight|tonite|2nite|today|this\s+(?:morning|afternoon|evening)|in\s+the\s+morning|tomorrow|by\s+morning"
)
_OUT_OF_SIGHT: Final = _words(
    r"can'?t\s+find|cannot\s+find|not\s+(?:in|here|back|seen)|isn'?t\s+(?:in|here|back)|(?:she|he)'?s\s+gone|missing"
    r"|no\s+sign|unaccounted|(?:walked|got|went)\s+out|hasn'?t\s+(?:come|been|arrived)|never\s+(?:came|come)"
    r"|nobody(?:'s|\s+has)\s+seen|been\s+gone"
)
_EXPOSED: Final = _words(
    r"frost\w*|freez\w*|ice|icy|snow\w*|minus|degrees|cold|dark|rain\w*|pyjamas?|nightie|nightgown|nightclothes|nightdress"
    r"|slippers|socks|barefoot|gown|(?:no|without|her|his)\s+coat|insulin|tide|river|canal|railway|sea|motorway|cliff"
    r"|(?:main|ring)\s+road"
)
_FOUND: Final = _words(
    r"found|back\s+(?:now|safe)|(?:brought|walked|got)\s+(?:him|her|them)\s+back|fetched|(?:she|he)(?:'s|\s+is)\s+back|safe"
)
# Any sign that something goes on or is still to come: present tense, a word of now, help that is called, grave harm.
_PRESENT: Final = _words(
    r"\w+ing|is|are|am|\w+'(?:s|re|m|ll)|won't|can't|isn't|aren't|now|tonight|today|tomorrow|this\s+\w+|still|again|night"
    r"|morning|help|hurry|quick(?:ly)?|999|police|ambulance|unconscious|blood|knife|raped|locked|coming|please"
    r"|hes|shes|theyre"
)


@dataclass(frozen=True)
class _Floor:
    """A concern of one of `categories` is of `severity` at least where the turn has all of `said`, none of `unless`."""

    categories: tuple[Category, ...]
    severity: Severity
    said: tuple[re.Pattern[str], ...]
    unless: re.Pattern[str] | None = None

    def holds(self, category: Category, text: str) -> bool:
        if category not in self.categories or (self.unless is not None and self.unless.search(text)):
            return False
        return all(words.search(text) for words in self.said)


# 'An allegation against staff or family is `high` once an act is named'; `critical` is danger in the next hours.
_FLOORS: Final = (
    _Floor(("physical_abuse", "domestic_abuse", "sexual_abuse"), "high", (_VIOLENCE,)),
    _Floor(("sexual_abuse",), "high", (_MOLESTING,)),
    _Floor(("self_harm",), "high", (_WAY_TO_DIE, _AT_HAND)),
    _Floor(("self_harm",), "critical", (_WAY_TO_DIE, _AT_HAND, _SOON)),
    _Floor(("self_harm",), "critical", (_LAST_WORDS, _SOON)),
    _Floor(("missing_person",), "critical", (_OUT_OF_SIGHT, _EXPOSED), unless=_FOUND),
)
# Of these, what is over and done is `high`: no word of the conversation says that anything goes on.
_CEILED: Final[tuple[Category, ...]] = ("physical_abuse", "domestic_abuse", "sexual_abuse")


def least_severity(category: Category, text: str) -> Severity:
    """What a concern of `category` in a turn with these words is at least; `low` where no rule speaks."""
    floors = [floor.severity for floor in _FLOORS if floor.holds(category, text)]
    return max(floors, key=SEVERITIES.index, default="low")


def most_severity(category: Category, conversation: str) -> Severity:
    """What it is at most in a conversation of these words."""
    return "high" if category in _CEILED and not _PRESENT.search(conversation) else "critical"


def with_rules(conversation: Conversation, assessments: Sequence[TurnAssessment]) -> tuple[TurnAssessment, ...]:
    """The assessments, one a turn, with each concern's severity inside what the rules allow."""
    if not any(row.concerns for row in assessments):
        return tuple(assessments)
    whole = " ".join(turn.text for turn in conversation.turns).replace("’", "'")
    return tuple(
        row.model_copy(update={"concerns": tuple(_ruled(one, turn.text, whole) for one in row.concerns)})
        if row.concerns
        else row
        for turn, row in zip(conversation.turns, assessments, strict=True)
    )


def _ruled(concern: Concern, text: str, whole: str) -> Concern:
    most = min(concern.severity, most_severity(concern.category, whole), key=SEVERITIES.index)
    ruled = max(most, least_severity(concern.category, text.replace("’", "'")), key=SEVERITIES.index)
    return concern if ruled == concern.severity else concern.model_copy(update={"severity": ruled})
