"""Extracts action items from a conversation: who promised to do what, and by when.

A trained classifier finds the turns in which a speaker commits to something. Rules then extract the promise from the
speaker's words: the text as an imperative, the owner (the speaker), and the due time as spoken.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays
from models.contract.records import ActionItem, Conversation
from models.text.deadlines import find_dates, find_deadline
from models.text.normalisation import normalised_conversation
from models.text.safeguarding import turn_maxima
from models.text.turn_encoder import TurnEncoder, TurnVectors

_MOST_ITEMS_A_TURN: Final = 4
_PROMISE: Final = re.compile(
    r"\b(?:(?:i|we)(?:'ll|’ll|\s+will|\s+shall)|il+|i'?m\s+(?:going\s+to(?!\s+(?:her|his|my|the|their|your)\b)|gonna)|i'd\s+like\s+to|(?:a|my|our)\s+colleague(?:\s+next\s+to\s+me)?(?:'s|\s+is)(?=\s+\w+ing\b)|(?:i|we)\s+am\s+going\s+to|"
    r"we'?re\s+(?:going\s+to|gonna)|let\s+me|i\s+can|i'?ve\s+got\s+to|"
    r"(?:i'?m|i\s+am|we'?re)(?=\s+(?:just\s+|now\s+|also\s+|already\s+)*(?:\w+ing\b|on\s+my\s+way|off\s+to)))\s+"
    r"(?:(?:just|also|then|definitely|now|be(?=\s+\w+ing\b)|already)\s+)*",
    re.IGNORECASE,
)
_BARE_GERUND: Final = re.compile(
    r"(?:^|[.!?,;]\s*|\b(?:and|then|ok|okay|right|yes|yep)\s+)(?=(?:will\s+|ringing|calling|phoning|doing|going|"
    r"sending|taking|coming|putting|getting|dialling|emailing|checking|texting|writing|bringing|driving|booking)\b)",
    re.IGNORECASE,
)
_NOT_A_DEED: Final = re.compile(
    r"(?:so\s+|really\s+|very\s+|not\b|sorry|glad|sure|afraid|fine|worried|happy|proud|pleased|ok\b|okay\b|here\b|"
    r"only\b|the\b|an?\b|his\b|her\b|in\b|on\b(?!\s+my\s+way)|at\b|see\b$|never\b|hear(?:ing)?\b|asking\b|saying\b|telling\s+you\b)",
    re.IGNORECASE,
)
_CLAUSE_END: Final = re.compile(
    r"[.!?;](?!\d)|,\s+(?=(?:and\s+)?(?:he|she|they|it|you|but|so|if)\b)|\s+(?=(?:but|cos|because|so|is\s+that)\b)"
    r"|\s+(?=(?:and\s+(?:\w+\s+)?)?(?:can|could|will|would)\s+you\b)|\s+(?=(?:and\s+)?you\s+(?:ring|stay|put|get)\b)",
    re.IGNORECASE,
)
_GERUND: Final = re.compile(r"[a-z]*[aeiouy][a-z]*ing", re.IGNORECASE)  # not 'ring', not 'bring'
_WILL_NOT_HAPPEN: Final = re.compile(
    r"\b(?:(?!promise\b|and\b|so\b)[\w']+\s+)?(?!promise\b)[\w']+(?:\s+(?:won't|will\s+not|is\s+not|isn't|'s\s+not|not)|'s\s+not)\s+(?:be\s+)?"
    r"(?:on|in|back|coming|going|allowed|let|working|visiting)\b",
    re.IGNORECASE,
)
_CONJUNCTION: Final = re.compile(
    r"\s*,\s*(?:and\s+|then\s+)*|\s+(?:and\s+(?:then\s+)?|then\s+|n\s+|&\s+)", re.IGNORECASE
)
_ASKING: Final = re.compile(
    r"\b(?:can|could|would|will)\s+(?:you|i|we|some\w+)\b|\bi(?:'d|\s+would)\s+like\b|\b(?:please|pls|need\w*|some(?:body|one)|any(?:body|one)|who's|who|if\s+you"
    r"|you'll|come|bring|ring|go|do|take|stay|put|make)\b",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(r"(?:[^.!?;]|[.](?=\d))+[.!?;]*")
_FEW_WORDS: Final = 6
_AT_ONCE: Final = re.compile(r"(?:right\s+)?now|straight\s?away|this\s+(?:minute|second)|immediately", re.IGNORECASE)
_IN_PROGRESS: Final = re.compile(
    r"(?:\bi'?m|\bi\s+am|^)\s*(?:just\s+|now\s+)*\w+ing\b|\bon\s+(?:it|to|my\s+way)\b", re.IGNORECASE
)
_THEN: Final = re.compile(r"\bthen\b(?=\s*(?:$|[.,!?]|and\b))", re.IGNORECASE)
_EMERGENCY: Final = re.compile(r"\b(?:999|police|ambulance)\b", re.IGNORECASE)
_TRAILING_WORDS: Final = re.compile(
    r"[\s,]*(?:\b(?:and|then|but|so|or|right|ok|okay|love|pet|yeah|x+)\b[\s,]*)+$", re.IGNORECASE
)


class ActionModel:
    """The commitments voiced in a conversation."""

    def __init__(
        self,
        encoder: TurnEncoder,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        calibration: NDArray[np.float32],
        manifest: Manifest,
        extractor: "CommitmentExtractor",
    ) -> None:
        """`head`: (1, 1536) and (1,); `calibration`: slope and intercept."""
        self._encoder = encoder
        self._weights, self._bias = head
        self._slope, self._intercept = (float(value) for value in calibration)
        self._extractor = extractor
        self.threshold = manifest.thresholds["commitment"]
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path, encoder: TurnEncoder, spacy_directory: Path) -> "ActionModel":
        """`spacy_directory`: as `models.artefacts.weights.spacy_model()` returns it."""
        manifest = load_manifest(path)
        encoder.require_matching_encoder(manifest)
        arrays = read_arrays(path)
        head = (arrays["head"].astype(np.float32), arrays["head_bias"].astype(np.float32))
        extractor = CommitmentExtractor.load(spacy_directory)
        return cls(encoder, head, arrays["calibration"].astype(np.float32), manifest, extractor)

    def extract(self, conversation: Conversation) -> tuple[ActionItem, ...]:
        """The action items of one conversation, by turn."""
        return self.extract_many([conversation])[0]

    def extract_many(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[tuple[ActionItem, ...]]:
        """As `extract` for each, batched; `vectors`: the encoder's answer, where the caller has it already."""
        commitment_probabilities = self.commitment_probabilities(conversations, vectors)
        return [
            tuple(
                item
                for turn in np.flatnonzero(chances >= self.threshold)
                for item in self._extractor.items(normalised_conversation(conversation), int(turn))
            )
            for conversation, chances in zip(conversations, commitment_probabilities, strict=True)
        ]

    def commitment_probabilities(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[NDArray[np.float32]]:
        """Per conversation (turns,): the calibrated probability that the turn commits somebody to something."""
        known = self._encoder.encode(conversations) if vectors is None else vectors
        answers = []
        for found in known:
            logits = turn_maxima(found.vectors @ self._weights.T + self._bias, found.turn_of)[:, 0]
            answers.append(1.0 / (1.0 + np.exp(-(logits * self._slope + self._intercept))))
        return answers


class CommitmentExtractor:
    """Cuts the promises of a committing turn out of its words; rules over a spaCy pipeline, no trained weights."""

    def __init__(self, language: Any) -> None:
        """`language`: a spaCy pipeline with a lemmatiser."""
        self._language = language

    @classmethod
    def load(cls, spacy_directory: Path) -> "CommitmentExtractor":
        """`spacy_directory`: as `models.artefacts.weights.spacy_model()` returns it."""
        import spacy  # noqa: PLC0415 - importing spaCy takes a second; other models do not need it

        return cls(spacy.load(spacy_directory, exclude=["parser", "ner", "senter"]))

    def items(self, conversation: Conversation, turn: int) -> list[ActionItem]:
        """What the speaker of `turn` takes on there, at most three; at least one wherever a word was said."""
        current_turn = conversation.turns[turn]
        addressee = _addressee(conversation, current_turn.speaker)
        items: list[ActionItem] = []
        clauses = promised_clauses(current_turn.text) or [current_turn.text.strip()]
        at_once = False
        for clause in clauses:
            span = find_deadline(clause)
            due = clause[slice(*span)] if span else None
            if due is None and at_once and _GERUND.fullmatch(clause.split(maxsplit=1)[0]):
                due = "now"  # 'I'm sending her home now and ringing the hub'
            if due is None:
                due = _due_from_context(conversation, turn, clause, alone=len(clauses) == 1)
            at_once = due is not None and _AT_ONCE.fullmatch(due) is not None
            text = self._imperative(
                clause if _WILL_NOT_HAPPEN.match(clause) else _without_span(clause, span), addressee
            )
            if text and all(text.lower() != other.text.lower() for other in items):
                items.append(ActionItem(turn=turn, text=text, owner=current_turn.speaker, due=due))
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


def promised_clauses(text: str) -> list[str]:
    """The verb phrases that the speaker promises: what follows 'I'll', 'I'm going to', 'ringing' and the like.

    Also what will not happen on the speaker's watch ('Kerry won't be on tonight'), with its subject. Two deeds under
    one promise are told apart where each has its time: 'ring them now and see her at four'.
    """
    starts = [(match.start(), match.end()) for match in _PROMISE.finditer(text)]
    inside = [(match.start(), match.end()) for match in _BARE_GERUND.finditer(text)]
    starts += [span for span in inside if all(span[1] != known[1] for known in starts)]
    starts += [(match.start(), match.start()) for match in _WILL_NOT_HAPPEN.finditer(text)]
    starts.sort()
    found = []
    for at, (_, begin) in enumerate(starts):
        end = next((start for start, _ in starts[at + 1 :] if start > begin), len(text))
        clause = text[begin:end]
        stop = _CLAUSE_END.search(clause)
        clause = re.sub(r"^will\s+", "", clause[: stop.start()] if stop else clause, flags=re.IGNORECASE)
        for part in _split_by_due(clause):
            action = _TRAILING_WORDS.sub("", part).strip(" ,-–")
            if len(action.split()) > 1 and not _NOT_A_DEED.match(action) and action not in found:
                found.append(action)
    return found


def _split_by_due(clause: str) -> list[str]:
    """`clause` cut at each 'and' or comma that has a time of its own on either side."""
    for match in _CONJUNCTION.finditer(clause):
        before, after = clause[: match.start()], clause[match.end() :]
        if (
            find_deadline(before)
            and find_deadline(after)
            and len(_without_span(after, find_deadline(after)).split()) > 1
        ):
            return [before, *_split_by_due(after)]
    return [clause]


def _due_from_context(conversation: Conversation, turn: int, clause: str, *, alone: bool) -> str | None:
    """A due time that the promise leaves to the words around it.

    In the same turn, where it is the only promise there; then what the other speaker asked for in the turn before; and
    'now' for what is being done while it is said ('Dialling.', 'I'm ringing 999').
    """
    current_turn = conversation.turns[turn]
    begin = current_turn.text.find(clause)
    if _THEN.search(
        current_turn.text[begin : begin + len(clause) + len(" then.")]
    ):  # 'I'm on at 2 so I'll sit with him then'
        earlier = [
            span for span in find_dates(current_turn.text) if span[1] <= begin and not _is_now(current_turn.text, span)
        ]
        if earlier:
            return current_turn.text[slice(*earlier[-1])]
    if alone and (anywhere := find_deadline(current_turn.text)):
        between = current_turn.text[min(anywhere[0], begin) : max(anywhere[0], begin)]
        if not (
            _is_now(current_turn.text, anywhere) and re.search(r"[.!?;]", between)
        ):  # 'The ramp is in now. I'll keep …'
            return current_turn.text[slice(*anywhere)]
    brief = len(current_turn.text.split()) <= _FEW_WORDS
    asked = conversation.turns[turn - 1] if turn else None
    if brief and asked is not None and asked.speaker != current_turn.speaker:
        times = _times_asked_for(asked.text)
        if times:
            return times[0]
    doing = _GERUND.fullmatch(clause.split(maxsplit=1)[0]) or _IN_PROGRESS.search(current_turn.text)
    return "now" if doing and (brief or _EMERGENCY.search(clause)) else None


def _times_asked_for(text: str) -> list[str]:
    """The time phrases of those sentences that ask somebody to do something."""
    asking = [part for part in _SENTENCE.findall(text) if _ASKING.search(part)]
    return [part[start:end] for part in asking for start, end in find_dates(part)]


def _is_now(text: str, span: tuple[int, int]) -> bool:
    return _AT_ONCE.fullmatch(text[slice(*span)]) is not None


def _without_span(clause: str, span: tuple[int, int] | None) -> str:
    if span is None:
        return clause
    rest = f"{clause[: span[0]].rstrip(' ,')} {clause[span[1] :].lstrip(' ,')}".strip()
    rest = re.sub(r"\s+(?:on|at|by|for|about)$", "", _TRAILING_WORDS.sub("", rest), flags=re.IGNORECASE)
    return rest.strip(" ,-–") or clause


def _addressee(conversation: Conversation, speaker: str | None) -> str | None:
    others = [person for person in conversation.participants if person.speaker != speaker]
    return others[0].name if len(others) == 1 and len(conversation.participants) == 2 else None
