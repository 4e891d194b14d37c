"""Writes an extractive summary of a conversation: two or three sentences, each citing the turns that support it.

The model chooses at most three turns. The first is the turn that most likely contains a concern. The others have the
highest word importance for their length; the importance of a word is the learnt probability that a person's summary
would contain it. A turn is quoted whole with the speaker's name and role; of a long turn, whole sentences are quoted,
because readers in a blind test preferred whole turns to clauses without context (training/LOG.md). A promise is
written in the third person. The code checks that every name and number is in the cited turns or in the participants'
list, and discards a sentence that fails. A language model on the home's own machines may write the summary instead
(`models/text/generated_summaries`), with the same check.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays
from models.contract.records import Conversation, Participant, Summary, SummarySentence, TurnAssessment
from models.text.actions import promised_clauses
from models.text.deadlines import find_deadline

FEATURES: Final = (
    "learnt_log_odds",  # that the summary contains a word of the conversation
    "times",
    "turns",
    "any_probability",
    "any_probability_among_turns",
    "longest_turn",
    "name",
    "number",
    "promised",
    "position",
    "letters",
    "several_speakers",
)
_MOST_SENTENCES: Final = 3
_FEWEST_SENTENCES: Final = 2
_MOST_WORDS: Final = 60  # of a quotation
_LENGTH_PENALTY_WORDS: Final = 70  # twice the length of people's summaries; a larger value penalises length less
_UNKNOWN_WORTH: Final = 0.05  # importance of an unknown word around a quotation
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_NAME_WORTH: Final = 0.55  # importance of a participant's name
_PRIOR: Final = 0.12  # share of a conversation's words that its summary contains
_PRIOR_WEIGHT: Final = 4.0
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_PROMISING: Final = re.compile(r"(?P<who>i|we)(?:'ll|’ll|\s+will)\s|i'?m\s+going\s+to\s", re.IGNORECASE)
_FIRST_PERSON: Final = re.compile(r"\b(?:i|i'm|i'll|i've|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)


@dataclass(frozen=True)
class WordImportance:
    """The learnt importance of words.

    `seen`: word -> number of conversations with it. `summarised`: word -> number of those in which a person's summary
    contains it. Names of participants are not counted. `layer`: (features + 1,) logistic weights over FEATURES, then
    the intercept.
    """

    seen: Mapping[str, int]
    summarised: Mapping[str, int]
    layer: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "WordImportance":
        """Rebuild from the result of `as_arrays`."""
        words = bytes(arrays["words"].tobytes()).decode("utf-8").split("\n")
        seen = dict(zip(words, (int(count) for count in arrays["seen"]), strict=True))
        summarised = dict(zip(words, (int(count) for count in arrays["told"]), strict=True))
        return cls(seen, summarised, arrays["layer"].astype(np.float32))

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays for an artefact: words as UTF-8 bytes joined by newlines, counts as int32; without words seen once."""
        words = sorted(word for word, count in self.seen.items() if count > 1)
        return {
            "words": np.frombuffer("\n".join(words).encode("utf-8"), dtype=np.uint8),
            "seen": np.asarray([self.seen[word] for word in words], dtype=np.int32),
            "told": np.asarray([self.summarised.get(word, 0) for word in words], dtype=np.int32),
            "layer": self.layer,
        }

    def of(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> dict[str, float]:
        """Word of the conversation or its participants -> the probability that a person's summary contains it."""
        words, rows = word_features(conversation, assessments, self.seen, self.summarised)
        chances = 1.0 / (1.0 + np.exp(-(rows @ self.layer[:-1] + self.layer[-1])))
        importance = dict(zip(words, (float(chance) for chance in chances), strict=True))
        for person in conversation.participants:
            for word in plain_words(person.role.replace("_", " ")):
                importance.setdefault(word, _smoothed_share(word, self.seen, self.summarised))
            for word in plain_words(person.name or ""):
                importance[word] = max(importance.get(word, 0.0), _NAME_WORTH)
        return importance


class SummarisationModel:
    """Chooses the most important passages and writes them as two or three sentences with citations."""

    def __init__(self, importance: WordImportance, manifest: Manifest) -> None:
        self._importance = importance
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path) -> "SummarisationModel":
        """Load a shipped directory. Raises `WriteCareError` if it is missing or its digests differ."""
        manifest = load_manifest(path)
        return cls(WordImportance.from_arrays(read_arrays(path)), manifest)

    def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        """`assessments`: one for each turn. An empty conversation has an empty summary."""
        importance = self._importance.of(conversation, assessments)
        sentences = choose_sentences(conversation, importance, gravest_turn(assessments))
        return Summary(text=" ".join(sentence.text for sentence in sentences), sentences=tuple(sentences))


def gravest_turn(assessments: Sequence[TurnAssessment]) -> int | None:
    """The turn with the most probable concern; None if no turn has a concern."""
    voiced = [turn for turn, row in enumerate(assessments) if row.concerns]
    return max(voiced, key=lambda turn: assessments[turn].scores["any"], default=None)


def choose_sentences(
    conversation: Conversation, importance: Mapping[str, float], gravest: int | None = None
) -> list[SummarySentence]:
    """Two or three sentences, each from a different turn, in the order of the conversation.

    The turn with the most probable concern is chosen first. Then sentences are added greedily by the expected overlap
    with a person's summary; repeated words add nothing, and length is penalised. If anything is promised, at least one
    sentence contains a promise, because a summary must contain what was agreed.
    """
    candidates = [
        _Candidate.of(sentence)
        for turn in range(len(conversation.turns))
        for sentence in _sentences(conversation, turn)
    ]
    first = _best_candidate(
        [candidate for candidate in candidates if candidate.sentence.turns == (gravest,)], [], importance
    )
    best, chosen = (0.0, []) if first is None else (first[0], [first[1]])
    while len(chosen) < _MOST_SENTENCES and (found := _best_candidate(candidates, chosen, importance)) is not None:
        gain, candidate = found
        if gain <= best and len(chosen) >= _FEWEST_SENTENCES:
            break
        chosen.append(candidate)
        best = max(best, gain)
    if not any(candidate.promised_clauses for candidate in chosen):
        kept = chosen[: _MOST_SENTENCES - 1]
        agreed = _best_candidate(
            [candidate for candidate in candidates if candidate.promised_clauses], kept, importance
        )
        chosen = chosen if agreed is None else [*kept, agreed[1]]
    return sorted((candidate.sentence for candidate in chosen), key=lambda sentence: sentence.turns)


@dataclass(frozen=True)
class _Candidate:
    """A sentence, its words, and whether it contains a promise."""

    sentence: SummarySentence
    words: tuple[str, ...]
    promised_clauses: bool

    @classmethod
    def of(cls, sentence: SummarySentence) -> "_Candidate":
        return cls(
            sentence,
            tuple(plain_words(sentence.text)),
            bool(promised_clauses(sentence.text)) or " will " in sentence.text,
        )


def _best_candidate(
    candidates: Sequence[_Candidate], chosen: Sequence[_Candidate], importance: Mapping[str, float]
) -> tuple[float, _Candidate] | None:
    """The candidate, from a turn not yet used, that gives the highest expected ROUGE-1; also returns that value."""
    turns = {candidate.sentence.turns for candidate in chosen}
    summarised = {word for candidate in chosen for word in candidate.words}
    length = _LENGTH_PENALTY_WORDS + sum(len(candidate.words) for candidate in chosen)
    already = sum(importance.get(word, _UNKNOWN_WORTH) for word in summarised)
    best: tuple[float, _Candidate] | None = None
    for candidate in candidates:
        if candidate.sentence.turns in turns:
            continue
        added = sum(importance.get(word, _UNKNOWN_WORTH) for word in set(candidate.words) - summarised)
        gain = 2 * (already + added) / (length + len(candidate.words))
        if best is None or gain > best[0]:
            best = (gain, candidate)
    return best


def word_features(
    conversation: Conversation,
    assessments: Sequence[TurnAssessment],
    seen: Mapping[str, int],
    summarised: Mapping[str, int],
) -> tuple[list[str], NDArray[np.float32]]:
    """The distinct words of a conversation and (words, features) in the order of FEATURES."""
    names = {word for person in conversation.participants for word in plain_words(person.name or "")}
    texts = [plain_words(turn.text) for turn in conversation.turns]
    promised = [
        {word for clause in promised_clauses(turn.text) for word in plain_words(clause)} for turn in conversation.turns
    ]
    chances = [row.scores["any"] for row in assessments]
    highest, longest = max([0.05, *chances]), max([1, *(len(text) for text in texts)])
    places: dict[str, list[int]] = defaultdict(list)
    for at, text in enumerate(texts):
        for word in text:
            places[word].append(at)
    rows = [
        (
            _log_odds(word, seen, summarised),
            np.log1p(len(at)),
            np.log1p(len(set(at))),
            max(chances[turn] for turn in at),
            max(chances[turn] for turn in at) / highest,
            max(len(texts[turn]) for turn in at) / longest,
            float(word in names),
            float(any(sign.isdigit() for sign in word)),
            float(any(word in promised[turn] for turn in at)),
            min(at) / max(1, len(texts) - 1),
            min(len(word), 8) / 8,
            float(len({conversation.turns[turn].speaker for turn in at}) > 1),
        )
        for word, at in places.items()
    ]
    return list(places), np.asarray(rows, dtype=np.float32).reshape(len(places), len(FEATURES))


def plain_words(text: str) -> list[str]:
    """Lower-case words of letters and digits only, as ROUGE counts them."""
    return "".join(sign if sign.isalnum() else " " for sign in text.lower()).split()


def _log_odds(word: str, seen: Mapping[str, int], summarised: Mapping[str, int]) -> float:
    chance = _smoothed_share(word, seen, summarised)
    return float(np.log(chance / (1.0 - chance)))


def _smoothed_share(word: str, seen: Mapping[str, int], summarised: Mapping[str, int]) -> float:
    """The share of conversations with `word` whose summary contains it, smoothed towards a prior."""
    return (max(0, summarised.get(word, 0)) + _PRIOR_WEIGHT * _PRIOR) / (max(0, seen.get(word, 0)) + _PRIOR_WEIGHT)


def _sentences(conversation: Conversation, turn: int) -> Iterator[SummarySentence]:
    """All candidate sentences of a turn: its promise in the third person, and its quotable passages."""
    said = conversation.turns[turn]
    if not _WORD.search(said.text):
        return
    who = speaker_name(conversation, said.speaker)
    summarised = _commitment_sentence(who, said.text)
    for text in (
        *([summarised] if summarised else []),
        *(f"{who}: “{passage}”" for passage in quotable_passages(said.text)),
    ):
        if not unsupported_terms(text, conversation, [turn]):
            yield SummarySentence(text=text, turns=(turn,))


def quotable_passages(text: str, most_words: int = _MOST_WORDS) -> list[str]:
    """The whole text if it has at most `most_words` words; otherwise all runs of its sentences with at most that many.

    An ellipsis (…) marks omitted text before or after. A sentence that is too long is cut.
    """
    clean = " ".join(text.split())
    if len(clean.split(" ")) <= most_words:
        return [clean]
    sentences = _SENTENCE.split(clean)
    found = []
    for first in range(len(sentences)):
        for last in range(first, len(sentences)):
            run = " ".join(sentences[first : last + 1])
            if len(run.split(" ")) > most_words and last > first:
                break
            kept = truncate_words(run, most_words)
            goes_on = last < len(sentences) - 1 and kept == run
            found.append(f"{'… ' if first else ''}{kept}{' …' if goes_on else ''}")
    return found


def unsupported_terms(text: str, conversation: Conversation, turns: Sequence[int]) -> set[str]:
    """Names and numbers in `text` that are neither in the cited turns nor in the participants' list, in lower case.

    Every capitalised word counts as a name, also the first word of a sentence, so that no name is missed.
    """
    known = {word for at in turns for word in _WORD.findall(conversation.turns[at].text.lower())}
    for person in conversation.participants:
        known |= set(_WORD.findall(f"{person.name or ''} {person.role.replace('_', ' ')} {person.speaker}".lower()))
    spoken = {conversation.turns[at].speaker for at in turns}
    known |= {word for speaker in spoken for word in _WORD.findall((speaker or "").lower())}
    claimed = {word for word in _WORD.findall(text) if word[0].isupper() or any(sign.isdigit() for sign in word)}
    return {word.lower() for word in claimed} - known - {"the", "someone"}


def _commitment_sentence(who: str, text: str) -> str | None:
    """The promises of a turn in the third person, if the words can be used unchanged; otherwise None.

    Example: `Beverley (manager) will ring the safeguarding team this afternoon.`
    """
    summarised = []
    for match in _PROMISING.finditer(text):
        begin = match.end()
        clause = next(
            (found for found in promised_clauses(text[match.start() :]) if text[begin:].lstrip().startswith(found)),
            None,
        )
        clear = clause is not None and (text[begin + len(clause) :][:1] in tuple(".!,;") or find_deadline(clause))
        if (
            clause is not None
            and clear
            and not _FIRST_PERSON.search(clause)
            and not re.search(r"\byou", clause, re.IGNORECASE)
        ):
            summarised.append(clause)
    rest = len(_WORD.findall(text)) - sum(len(_WORD.findall(clause)) for clause in summarised)
    if not summarised or rest > 12:  # the turn says more than the promise, so it is quoted instead
        return None
    return f"{who} will {' and '.join(summarised)}."


def truncate_words(text: str, most_words: int) -> str:
    """The text cut to at most `most_words` words, with … at the cut."""
    words = text.split(" ")
    return text if len(words) <= most_words else f"{' '.join(words[:most_words])} …"


def speaker_name(conversation: Conversation, speaker: str | None) -> str:
    """Name and role of a speaker, as summaries write them."""
    person: Participant | None = next((p for p in conversation.participants if p.speaker == speaker), None)
    if person is None:
        return speaker or "Someone"
    role = person.role.replace("_", " ")
    if person.name is None:
        return f"The {role}" if person.role != "other" else person.speaker
    return f"{person.name} ({role})" if person.role != "other" else person.name
