"""Summary: two or three sentences that a safeguarding lead can read first, each citing the turns it rests on.

Extractive: a trained ranking chooses turns, their words are quoted under the speaker's name and role, and a promise
is told in the third person. Nothing is written that the cited turns or the participants' list do not hold: names
and numbers are checked in code, and a sentence that fails is not used.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.actions import promises
from models.artefacts import Manifest, read_arrays, read_artefact
from models.due import find_due
from models.records import SEVERITIES, Conversation, Participant, Summary, SummarySentence, TurnAssessment

FEATURES: Final = (
    "any_probability",
    "any_probability_among_turns",
    "severity_of_concern",
    "words",
    "words_share_of_longest",
    "promise",
    "due_time",
    "position",
    "names",
    "numbers",
    "question",
)
_MOST_SENTENCES: Final = 3
_MOST_WORDS: Final = 40  # of a quotation
_REDUNDANCY: Final = 0.5  # how much a turn loses per share of its words that is already told
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_PROMISING: Final = re.compile(r"(?P<who>i|we)(?:'ll|’ll|\s+will)\s|i'?m\s+going\s+to\s", re.IGNORECASE)
_FIRST_PERSON: Final = re.compile(r"\b(?:i|i'm|i'll|i've|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)


class SummarisationModel:
    """Chooses the turns that matter and tells them in two or three cited sentences."""

    def __init__(self, ranking: NDArray[np.float32], manifest: Manifest) -> None:
        """`ranking`: (features + 1,) linear weights over `turn_features`, then the intercept."""
        self._ranking = ranking
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path) -> "SummarisationModel":
        """From a shipped directory; raises `WriteCareError` where it is missing or its digests differ."""
        manifest = read_artefact(path)
        return cls(read_arrays(path)["ranking"].astype(np.float32), manifest)

    def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        """`assessments`: one a turn. An empty conversation has an empty summary."""
        chosen = choose_turns(conversation, assessments, self._ranking)
        sentences = [sentence for turn in chosen if (sentence := _sentence(conversation, turn)) is not None]
        return Summary(text=" ".join(sentence.text for sentence in sentences), sentences=tuple(sentences))


def choose_turns(
    conversation: Conversation, assessments: Sequence[TurnAssessment], ranking: NDArray[np.float32]
) -> list[int]:
    """Up to three turns in the order they were said, highest ranked first chosen, repetition avoided."""
    spoken = [at for at, turn in enumerate(conversation.turns) if _WORD.search(turn.text)]
    if not spoken:
        return []
    ranks = turn_features(conversation, assessments) @ ranking[:-1] + ranking[-1]
    words = [set(_WORD.findall(turn.text.lower())) for turn in conversation.turns]
    chosen: list[int] = []
    told: set[str] = set()
    while len(chosen) < min(_MOST_SENTENCES, len(spoken)):
        gains = {
            at: float(ranks[at]) - _REDUNDANCY * len(words[at] & told) / max(1, len(words[at]))
            for at in spoken
            if at not in chosen
        }
        best = max(gains, key=lambda at: gains[at])
        chosen.append(best)
        told |= words[best]
    return sorted(chosen)


def turn_features(conversation: Conversation, assessments: Sequence[TurnAssessment]) -> NDArray[np.float32]:
    """(turns, features) in the order of FEATURES."""
    texts = [turn.text for turn in conversation.turns]
    names = {person.name.lower() for person in conversation.participants if person.name}
    lengths = [len(_WORD.findall(text)) for text in texts]
    longest = max([1, *lengths])
    highest = max([0.05, *(row.scores["any"] for row in assessments)])
    chances = [row.scores["any"] for row in assessments]
    rows = [
        (
            chances[at],
            chances[at] / highest,
            (SEVERITIES.index(row.concerns[0].severity) + 1) / len(SEVERITIES) if row.concerns else 0.0,
            min(lengths[at], 60) / 30,
            lengths[at] / longest,
            float(bool(promises(text))),
            float(find_due(text) is not None),
            at / max(1, len(texts) - 1),
            float(any(word in names for word in _WORD.findall(text.lower()))),
            float(bool(re.search(r"\d", text))),
            float("?" in text),
        )
        for at, (text, row) in enumerate(zip(texts, assessments, strict=True))
    ]
    return np.asarray(rows, dtype=np.float32).reshape(len(texts), len(FEATURES))


def unsupported(text: str, conversation: Conversation, turns: Sequence[int]) -> set[str]:
    """Names and numbers in `text` that neither the cited turns nor the participants' list hold, lower case.

    A name is a capitalised word; the first word of a sentence counts too, so that nothing slips through there.
    """
    known = {word for at in turns for word in _WORD.findall(conversation.turns[at].text.lower())}
    for person in conversation.participants:
        known |= set(_WORD.findall(f"{person.name or ''} {person.role.replace('_', ' ')} {person.speaker}".lower()))
    spoken = {conversation.turns[at].speaker for at in turns}
    known |= {word for speaker in spoken for word in _WORD.findall((speaker or "").lower())}
    claimed = {word for word in _WORD.findall(text) if word[0].isupper() or any(sign.isdigit() for sign in word)}
    return {word.lower() for word in claimed} - known - {"the", "someone"}


def _sentence(conversation: Conversation, turn: int) -> SummarySentence | None:
    """A promise in the third person where it can be told so, else a quotation; None if either would invent."""
    said = conversation.turns[turn]
    who = _speaker(conversation, said.speaker)
    for text in (_promise(who, said.text), f"{who}: “{shortened(said.text)}”"):
        if text is not None and not unsupported(text, conversation, [turn]):
            return SummarySentence(text=text, turns=(turn,))
    return None


def _promise(who: str, text: str) -> str | None:
    """`Beverley (manager) will ring the safeguarding team this afternoon.`, where the words allow it unchanged."""
    told = []
    for match in _PROMISING.finditer(text):
        begin = match.end()
        clause = next(
            (found for found in promises(text[match.start() :]) if text[begin:].lstrip().startswith(found)), None
        )
        clear = clause is not None and (text[begin + len(clause) :][:1] in tuple(".!,;") or find_due(clause))
        if (
            clause is not None
            and clear
            and not _FIRST_PERSON.search(clause)
            and not re.search(r"\byou", clause, re.IGNORECASE)
        ):
            told.append(clause)
    rest = len(_WORD.findall(text)) - sum(len(_WORD.findall(clause)) for clause in told)
    if not told or rest > 12:  # more was said than promised: the quotation keeps it
        return None
    return f"{who} will {' and '.join(told)}."


def shortened(text: str, most_words: int = _MOST_WORDS) -> str:
    """At most `most_words` words, cut at the end of a sentence where one ends late enough, else marked with …"""
    clean = " ".join(text.split())
    words = clean.split(" ")
    if len(words) <= most_words:
        return clean
    kept = " ".join(words[:most_words])
    stop = max(kept.rfind(mark) for mark in (". ", "! ", "? "))
    return kept[: stop + 1] if stop > len(kept) // 2 else f"{kept} …"


def _speaker(conversation: Conversation, speaker: str | None) -> str:
    person: Participant | None = next((p for p in conversation.participants if p.speaker == speaker), None)
    if person is None:
        return speaker or "Someone"
    role = person.role.replace("_", " ")
    if person.name is None:
        return f"The {role}" if person.role != "other" else person.speaker
    return f"{person.name} ({role})" if person.role != "other" else person.name
