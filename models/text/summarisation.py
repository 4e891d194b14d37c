"""Summary: two or three sentences that a safeguarding lead can read first, each citing the turns it rests on.

Extractive: the turn that most likely voices a concern, then those whose words are worth most for their length by a
learnt worth of each word (how likely a person's summary would hold it), three at most. A turn is quoted whole under the
speaker's name and role, a long one by whole sentences: readers, asked blind, would rather be given whole turns than
clauses that had lost what they answer (training/LOG.md). A promise is told in the third person. Nothing is written
that the cited turns or the participants' list do not hold: names and numbers are checked in code, and a sentence that
fails is not used. A model on the home's own machines may write instead (`models/text/generated_summaries`), under the
same check.
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
    "learnt_log_odds",  # of a word that stands in a conversation: that its summary holds it
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
_LENGTH_PENALTY_WORDS: Final = 70  # twice what people write: from here on length costs more than it brings
_UNKNOWN_WORTH: Final = 0.05  # of a word of the frame around a quotation that was not learnt
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_NAME_WORTH: Final = 0.55  # of a participant's name
_PRIOR: Final = 0.12  # share of a conversation's words that its summary holds
_PRIOR_WEIGHT: Final = 4.0
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_PROMISING: Final = re.compile(r"(?P<who>i|we)(?:'ll|’ll|\s+will)\s|i'?m\s+going\s+to\s", re.IGNORECASE)
_FIRST_PERSON: Final = re.compile(r"\b(?:i|i'm|i'll|i've|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)


@dataclass(frozen=True)
class WordImportance:
    """What was learnt of single words.

    `seen` and `summarised`: word -> in how many conversations it was said, and in how many of those a person's summary held
    it; names of participants are not counted. `layer`: (features + 1,) logistic weights over FEATURES, then intercept.
    """

    seen: Mapping[str, int]
    summarised: Mapping[str, int]
    layer: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "WordImportance":
        """From what `as_arrays` gave."""
        words = bytes(arrays["words"].tobytes()).decode("utf-8").split("\n")
        seen = dict(zip(words, (int(count) for count in arrays["seen"]), strict=True))
        summarised = dict(zip(words, (int(count) for count in arrays["told"]), strict=True))
        return cls(seen, summarised, arrays["layer"].astype(np.float32))

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """For an artefact: words as UTF-8 bytes joined by newlines, counts as int32; words said once are left out."""
        words = sorted(word for word, count in self.seen.items() if count > 1)
        return {
            "words": np.frombuffer("\n".join(words).encode("utf-8"), dtype=np.uint8),
            "seen": np.asarray([self.seen[word] for word in words], dtype=np.int32),
            "told": np.asarray([self.summarised.get(word, 0) for word in words], dtype=np.int32),
            "layer": self.layer,
        }

    def of(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> dict[str, float]:
        """Word of the conversation, or of its participants -> the chance that a person's summary would hold it."""
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
    """Chooses the passages that matter and tells them in two or three cited sentences."""

    def __init__(self, importance: WordImportance, manifest: Manifest) -> None:
        self._importance = importance
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path) -> "SummarisationModel":
        """From a shipped directory; raises `WriteCareError` where it is missing or its digests differ."""
        manifest = load_manifest(path)
        return cls(WordImportance.from_arrays(read_arrays(path)), manifest)

    def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        """`assessments`: one a turn. An empty conversation has an empty summary."""
        importance = self._importance.of(conversation, assessments)
        sentences = choose_sentences(conversation, importance, gravest_turn(assessments))
        return Summary(text=" ".join(sentence.text for sentence in sentences), sentences=tuple(sentences))


def gravest_turn(assessments: Sequence[TurnAssessment]) -> int | None:
    """Of the turns that voice a concern the likeliest; None where none does."""
    voiced = [turn for turn, row in enumerate(assessments) if row.concerns]
    return max(voiced, key=lambda turn: assessments[turn].scores["any"], default=None)


def choose_sentences(
    conversation: Conversation, importance: Mapping[str, float], gravest: int | None = None
) -> list[SummarySentence]:
    """Two or three sentences, each of another turn, in the order in which they were said.

    The gravest turn's first; then greedily those after which the expected share of words with a person's summary is
    highest, so that what is already told counts for nothing and length has its price. Where something is promised, one
    of the sentences tells a promise: what was agreed must not be missing.
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
    """A sentence, its words, and whether it tells what somebody takes on."""

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
    """The candidate of a turn not yet told after which the expected ROUGE-1 is highest, and that figure."""
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
    """Words of letters and digits alone, lower case, as ROUGE counts them."""
    return "".join(sign if sign.isalnum() else " " for sign in text.lower()).split()


def _log_odds(word: str, seen: Mapping[str, int], summarised: Mapping[str, int]) -> float:
    chance = _smoothed_share(word, seen, summarised)
    return float(np.log(chance / (1.0 - chance)))


def _smoothed_share(word: str, seen: Mapping[str, int], summarised: Mapping[str, int]) -> float:
    """Shrunken share of the conversations with `word` whose summary holds it."""
    return (max(0, summarised.get(word, 0)) + _PRIOR_WEIGHT * _PRIOR) / (max(0, seen.get(word, 0)) + _PRIOR_WEIGHT)


def _sentences(conversation: Conversation, turn: int) -> Iterator[SummarySentence]:
    """All ways to tell a turn: its promise in the third person, and what of it can be quoted."""
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
    """The text, where it has at most `most_words` words; else the runs of its sentences that have, marked with … where
    something stands before or after. A sentence that is longer by itself is cut."""
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


def _commitment_sentence(who: str, text: str) -> str | None:
    """`Beverley (manager) will ring the safeguarding team this afternoon.`, where the words allow it unchanged."""
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
    if not summarised or rest > 12:  # more was said than promised: the quotation keeps it
        return None
    return f"{who} will {' and '.join(summarised)}."


def truncate_words(text: str, most_words: int) -> str:
    """At most `most_words` words, marked with … where cut."""
    words = text.split(" ")
    return text if len(words) <= most_words else f"{' '.join(words[:most_words])} …"


def speaker_name(conversation: Conversation, speaker: str | None) -> str:
    """Name and role of who speaks, as summaries tell them."""
    person: Participant | None = next((p for p in conversation.participants if p.speaker == speaker), None)
    if person is None:
        return speaker or "Someone"
    role = person.role.replace("_", " ")
    if person.name is None:
        return f"The {role}" if person.role != "other" else person.speaker
    return f"{person.name} ({role})" if person.role != "other" else person.name
