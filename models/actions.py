"""Actions: who has promised to do what by when; the last thing that a lead reads of a conversation.

A trained classifier decides which turns commit somebody; rules then cut the promise out of the speaker's own
words: the imperative text, the owner (the speaker) and the due time as said.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts import Manifest, read_arrays, read_artefact
from models.due import find_due
from models.records import ActionItem, Conversation
from models.safeguarding import turn_maxima
from models.turn_encoder import TurnEncoder, TurnVectors

_MOST_ITEMS_A_TURN: Final = 3
_PROMISE: Final = re.compile(
    r"\b(?:(?:i|we)(?:'ll|’ll|\s+will|\s+shall)|il+|i'?m\s+(?:going\s+to|gonna)|(?:i|we)\s+am\s+going\s+to|"
    r"we'?re\s+(?:going\s+to|gonna)|let\s+me|i\s+can|i'?ve\s+got\s+to|"
    r"(?:i'?m|i\s+am|we'?re)(?=\s+(?:just\s+|now\s+|also\s+|already\s+)*(?:\w+ing\b|on\s+my\s+way|off\s+to)))\s+"
    r"(?:(?:just|also|then|definitely|now|be(?=\s+\w+ing\b)|already)\s+)*",
    re.IGNORECASE,
)
_BARE: Final = re.compile(
    r"(?:^|[.!?,;]\s*|\b(?:and|then|ok|okay|right|yes|yep)\s+)(?=(?:will\s+|ringing|calling|phoning|doing|going|"
    r"sending|taking|coming|putting|getting|dialling|emailing|checking|texting|writing|bringing|driving|booking)\b)",
    re.IGNORECASE,
)
_STATE: Final = re.compile(
    r"(?:so\s+|really\s+|very\s+|not\b|sorry|glad|sure|afraid|fine|worried|happy|proud|pleased|ok\b|okay\b|here\b|"
    r"only\b|the\b|an?\b|his\b|her\b|in\b|on\b(?!\s+my\s+way)|at\b|see\b$|never\b|hear(?:ing)?\b|asking\b|saying\b|telling\s+you\b)",
    re.IGNORECASE,
)
_CLAUSE_END: Final = re.compile(
    r"[.!?;]|,\s+(?=(?:and\s+)?(?:he|she|they|it|you|but|so|if)\b)|\s+(?=(?:but|cos|because|so|is\s+that)\b)",
    re.IGNORECASE,
)
_GERUND: Final = re.compile(r"[a-z]*[aeiouy][a-z]*ing", re.IGNORECASE)  # not 'ring', not 'bring'
_TAIL: Final = re.compile(r"[\s,]*(?:\b(?:and|then|but|so|or|right|ok|okay|love|pet|yeah|x+)\b[\s,]*)+$", re.IGNORECASE)


class ActionModel:
    """The commitments voiced in a conversation."""

    def __init__(
        self,
        encoder: TurnEncoder,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        calibration: NDArray[np.float32],
        manifest: Manifest,
        language: Any,
    ) -> None:
        """`head`: (1, 768) and (1,); `calibration`: slope and intercept; `language`: a spaCy pipeline."""
        self._encoder = encoder
        self._weights, self._bias = head
        self._slope, self._intercept = (float(value) for value in calibration)
        self._language = language
        self.threshold = manifest.thresholds["commitment"]
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path, encoder: TurnEncoder, spacy_directory: Path) -> "ActionModel":
        """`spacy_directory`: as `models.weights.spacy_model()` returns it."""
        import spacy  # noqa: PLC0415 - importing spaCy takes a second that other readers should not pay

        manifest = read_artefact(path)
        encoder.must_suit(manifest)
        arrays = read_arrays(path)
        head = (arrays["head"].astype(np.float32), arrays["head_bias"].astype(np.float32))
        language = spacy.load(spacy_directory, exclude=["parser", "ner", "senter"])
        return cls(encoder, head, arrays["calibration"].astype(np.float32), manifest, language)

    def extract(self, conversation: Conversation) -> tuple[ActionItem, ...]:
        """The action items of one conversation, by turn."""
        return self.extract_many([conversation])[0]

    def extract_many(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[tuple[ActionItem, ...]]:
        """As `extract` for each, batched; `vectors`: the encoder's answer, where the caller has it already."""
        commitments = self.commitments(conversations, vectors)
        return [
            tuple(
                item
                for turn in np.flatnonzero(chances >= self.threshold)
                for item in self._items(conversation, int(turn))
            )
            for conversation, chances in zip(conversations, commitments, strict=True)
        ]

    def commitments(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[NDArray[np.float32]]:
        """Per conversation (turns,): the calibrated probability that the turn commits somebody to something."""
        known = self._encoder.encode(conversations) if vectors is None else vectors
        answers = []
        for found in known:
            logits = turn_maxima(found.vectors @ self._weights.T + self._bias, found.turn_of)[:, 0]
            answers.append(1.0 / (1.0 + np.exp(-(logits * self._slope + self._intercept))))
        return answers

    def _items(self, conversation: Conversation, turn: int) -> list[ActionItem]:
        said = conversation.turns[turn]
        addressee = _addressee(conversation, said.speaker)
        items: list[ActionItem] = []
        clauses = promises(said.text) or [said.text.strip()]
        anywhere = find_due(said.text) if len(clauses) == 1 else None  # 'not tonight he won't, I'm ringing them'
        for clause in clauses:
            span = find_due(clause)
            due = clause[span[0] : span[1]] if span else said.text[slice(*anywhere)] if anywhere else None
            text = self._imperative(_without(clause, span), addressee)
            if text and all(text.lower() != other.text.lower() for other in items):
                items.append(ActionItem(turn=turn, text=text, owner=said.speaker, due=due))
        return items[:_MOST_ITEMS_A_TURN]

    def _imperative(self, clause: str, addressee: str | None) -> str:
        """The clause with its first verb in the base form; 'you' becomes the other person where there is just one."""
        words = clause.split()
        if not words:
            return ""
        if _GERUND.fullmatch(words[0]):
            # 'I am' before it makes the tagger read the word as the verb that it is.
            words[0] = self._language(f"I am {clause}")[2].lemma_
        text = " ".join(words)
        if addressee is not None:
            text = re.sub(r"\byour\b(?!\s+own)", f"{addressee}'s", text, flags=re.IGNORECASE)
            text = re.sub(r"(?<!of )\byou\b(?!')", addressee, text, flags=re.IGNORECASE)
        return text[:1].upper() + text[1:]


def promises(text: str) -> list[str]:
    """The verb phrases that the speaker promises: what follows 'I'll', 'I'm going to', 'ringing' and the like."""
    starts = [(match.start(), match.end()) for match in _PROMISE.finditer(text)]
    inside = [(match.start(), match.end()) for match in _BARE.finditer(text)]
    starts += [span for span in inside if all(span[1] != known[1] for known in starts)]
    starts.sort()
    found = []
    for at, (_, begin) in enumerate(starts):
        end = starts[at + 1][0] if at + 1 < len(starts) else len(text)
        clause = text[begin:end]
        stop = _CLAUSE_END.search(clause)
        clause = re.sub(r"^will\s+", "", clause[: stop.start()] if stop else clause, flags=re.IGNORECASE)
        clause = _TAIL.sub("", clause).strip(" ,-–")
        if len(clause.split()) > 1 and not _STATE.match(clause):
            found.append(clause)
    return found


def _without(clause: str, span: tuple[int, int] | None) -> str:
    if span is None:
        return clause
    rest = f"{clause[: span[0]].rstrip(' ,')} {clause[span[1] :].lstrip(' ,')}".strip()
    rest = re.sub(r"\s+(?:on|at|by|for|about)$", "", _TAIL.sub("", rest), flags=re.IGNORECASE)
    return rest.strip(" ,-–") or clause


def _addressee(conversation: Conversation, speaker: str | None) -> str | None:
    others = [person for person in conversation.participants if person.speaker != speaker]
    return others[0].name if len(others) == 1 and len(conversation.participants) == 2 else None
