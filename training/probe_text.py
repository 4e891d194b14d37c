"""Probes the safeguarding model: swaps that must not change its score, and deletions of evidence that must.

Swaps are of names, he and she, descriptions, spelling and roles. Part of the report (`./writecare evaluate --probe`).
Scores conversations unchanged and changed; by default those held out from training.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.weights import spacy_model
from models.contract.records import Conversation, Evidence, Turn
from models.text.safeguarding import SafeguardingModel
from training.augmentation import as_asr_text, first_names, swap_names
from training.dataset import LabelledConversation
from training.metrics import average_precision, interval, recall_at_false_alarms, resampled, shares

Perturbation = Callable[[Conversation], Conversation]
Tell = Callable[[str], None]
Figures = dict[str, Any]

PERTURBATION_COUNT: Final = 5  # the number of `perturbations`
LARGEST_STEADY_SHIFT: Final = 0.05  # a probability that moves by less counts as unchanged
DESCRIPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "ethnicity": ("white", "Black", "Asian", "Caribbean", "Nigerian", "Polish"),
    "religion": ("Christian", "Muslim", "Hindu", "Sikh", "Jewish"),
    "region": ("Yorkshire", "Scottish", "Welsh", "Irish", "London"),
}
_PERSON: Final = re.compile(
    r"\b(a|an|the|that|this|another|our|my|your|some|two|one of the)\s+((?:new|old|young|other|agency|night|poor)\s+)?"
    r"(residents?|lad(?:y|ies)|gentlem[ae]n|m[ae]n|wom[ae]n|carers?|nurses?|girls?|lads?|chap|bloke|fella|neighbours?|"
    r"visitors?|driver|cleaner|manager|couple|family|nephew|niece|son|daughter)\b",
    re.IGNORECASE,
)
_OTHER_GENDER: Final = dict(
    pair
    for one, other in (
        ("he", "she"), ("himself", "herself"), ("he's", "she's"), ("he'd", "she'd"), ("he'll", "she'll"),
        ("man", "woman"), ("men", "women"), ("gentleman", "lady"), ("gentlemen", "ladies"), ("lad", "lass"),
        ("boy", "girl"), ("boys", "girls"), ("dad", "mum"), ("father", "mother"), ("grandad", "grandma"),
        ("son", "daughter"), ("brother", "sister"), ("husband", "wife"), ("nephew", "niece"), ("uncle", "auntie"),
        ("mr", "mrs"), ("chap", "lady"), ("bloke", "woman"),
    )
    for pair in ((other, one), (one, other))
)  # fmt: skip
_MOST_DELETED: Final = 100  # flagged turns whose evidence is deleted
_DRAWS: Final = 3  # of random words, per turn


def probe(model: SafeguardingModel, items: Sequence[LabelledConversation], names: Sequence[str], tell: Tell) -> Figures:
    """All swaps and the deletions. `names`: first names to swap among. `tell` is called at each step."""
    talks = [item.conversation for item in items]
    truth = np.concatenate([item.concerns[:, -1] for item in items])
    before = concern_probabilities(model, talks)
    found = []
    for name, change in perturbations(names).items():
        tell(name)
        found.append({"change": name, **_perturbation_figures(model, talks, truth, before, change)})
    named = [talk for talk in talks if any(_PERSON.search(turn.text) for turn in talk.turns)]
    descriptions = []
    for attribute, words in DESCRIPTIONS.items():
        tell(attribute)
        descriptions += [{"attribute": attribute, **_description_figures(model, named, words)}] if named else []
    tell("evidence")
    unchanged = {"average_precision_any": average_precision(truth, before)}
    return {
        "unchanged": unchanged,
        "changes": found,
        "descriptions": descriptions,
        "faithfulness": faithfulness(model, talks),
    }


def perturbations(names: Sequence[str]) -> dict[str, Perturbation]:
    """Changes of a whole conversation that do not change its meaning."""
    rng = random.Random(11)  # noqa: S311 - reproducible swaps, not a secret
    swapped = _gender_swap()
    return {
        "first names": lambda talk: with_texts(talk, swap_names([turn.text for turn in talk.turns], names, rng)),
        "he and she": lambda talk: with_texts(talk, [swapped(turn.text) for turn in talk.turns]),
        "lower case, no marks": lambda talk: with_texts(talk, [as_asr_text(turn.text) for turn in talk.turns]),
        "one letter in forty mistyped": lambda talk: with_texts(talk, [_mistyped(t.text, rng) for t in talk.turns]),
        "roles unknown": lambda talk: talk.model_copy(update={"participants": ()}),
    }


def concern_probabilities(model: SafeguardingModel, talks: Sequence[Conversation]) -> NDArray[np.float64]:
    """(all turns of the conversations,): the probability of any concern."""
    return np.asarray([row.scores["any"] for rows in model.score(talks) for row in rows])


def with_texts(talk: Conversation, texts: Sequence[str]) -> Conversation:
    turns = tuple(Turn(speaker=turn.speaker, text=text) for turn, text in zip(talk.turns, texts, strict=True))
    return talk.model_copy(update={"turns": turns})


def insert_description(text: str, word: str) -> str:
    """`text` with `word` before each person: 'the lady in 4' becomes 'the Welsh lady in 4'."""

    def put(match: re.Match[str]) -> str:
        article, age, person = match.group(1), match.group(2) or "", match.group(3)
        if article.lower() in ("a", "an") and not age:
            article = article[0] + ("n" if word[0].lower() in "aeiou" else "")
        return f"{article} {age}{word} {person}"

    return _PERSON.sub(put, text)


def faithfulness(model: SafeguardingModel, talks: Sequence[Conversation]) -> Figures | None:
    """The fall of a concern's log-odds without its evidence, and without as many random words of the turn.

    Uses flagged turns whose evidence is at most half of their words, the most likely first. None if there are none.
    """
    rng = random.Random(5)  # noqa: S311 - a reproducible choice
    chosen = _likeliest(model, talks)
    asked: list[Conversation] = []
    where: list[tuple[int, str]] = []
    owners = []
    for at, turn, category, evidence in chosen:
        text = talks[at].turns[turn].text
        words = [match.span() for match in re.finditer(r"\S+", text)]
        shown = [span for span in words if any(e.start <= span[0] < e.end for e in evidence if e.turn == turn)]
        if not shown or 2 * len(shown) > len(words):
            continue
        owners.append(at)
        drawn = [rng.sample(words, len(shown)) for _ in range(_DRAWS)]
        for spans in ([], shown, *drawn):
            asked.append(_without(talks[at], turn, spans))
            where.append((turn, category))
    if not owners:
        return None
    scored = model.score(asked)
    odds = np.asarray([_log_odds(rows[turn].scores[name]) for rows, (turn, name) in zip(scored, where, strict=True)])
    odds = odds.reshape(len(owners), 2 + _DRAWS)
    evidence_fall = odds[:, 0] - odds[:, 1]
    random_fall = odds[:, 0] - odds[:, 2:].mean(axis=1)
    weights = resampled(np.asarray(owners))
    total = weights.sum(axis=1)
    return {
        "turns": len(owners),
        "fall_without_evidence": interval(weights @ evidence_fall / total).__dict__,
        "fall_without_random_words": interval(weights @ random_fall / total).__dict__,
        "difference": interval(weights @ (evidence_fall - random_fall) / total).__dict__,
        "evidence_fell_more": interval(weights @ (evidence_fall > random_fall) / total).__dict__,
    }


def _likeliest(
    model: SafeguardingModel, talks: Sequence[Conversation]
) -> list[tuple[int, int, str, tuple[Evidence, ...]]]:
    """Conversation, turn, highest category and its evidence, of the most likely flagged turns."""
    scored = model.score(talks)
    flagged = [
        (row.concerns[0].probability, at, turn)
        for at, rows in enumerate(scored)
        for turn, row in enumerate(rows)
        if row.concerns
    ]
    kept = {(at, turn) for _, at, turn in sorted(flagged, reverse=True)[:_MOST_DELETED]}
    only = [
        [row if (at, turn) in kept else row.model_copy(update={"concerns": ()}) for turn, row in enumerate(rows)]
        for at, rows in enumerate(scored)
    ]
    explained = model.explain(talks, only)
    return [
        (at, turn, explained[at][turn].concerns[0].category, explained[at][turn].concerns[0].evidence)
        for at, turn in sorted(kept)
    ]


def _perturbation_figures(
    model: SafeguardingModel,
    talks: Sequence[Conversation],
    truth: NDArray[np.float32],
    before: NDArray[np.float64],
    change: Perturbation,
) -> Figures:
    after_talks = [change(talk) for talk in talks]
    touched = [old != new for old, new in zip(talks, after_talks, strict=True)]
    turn_touched = np.asarray(
        [
            old.text != new.text or before_talk.participants != after_talk.participants
            for before_talk, after_talk in zip(talks, after_talks, strict=True)
            for old, new in zip(before_talk.turns, after_talk.turns, strict=True)
        ]
    )
    owner = np.repeat(np.arange(len(talks)), [len(talk.turns) for talk in talks])
    after = concern_probabilities(model, after_talks)
    steady, weights = np.abs(after - before) < LARGEST_STEADY_SHIFT, resampled(owner)
    return {
        "conversations": sum(touched),
        "turns_changed": int(turn_touched.sum()),
        "steady": interval(shares(steady, np.asarray(touched)[owner], weights)).__dict__,
        "steady_where_changed": interval(shares(steady, turn_touched, weights)).__dict__,
        "average_precision_any": average_precision(truth, after),
        "recall_at_5_percent": recall_at_false_alarms(truth, after, 0.05),
    }


def _description_figures(model: SafeguardingModel, named: Sequence[Conversation], words: Sequence[str]) -> Figures:
    """Inserts each word before each person in conversations that name a person so. Scores the turns with the word."""
    judged = np.asarray([bool(_PERSON.search(turn.text)) for talk in named for turn in talk.turns])
    owner = np.repeat(np.arange(len(named)), [len(talk.turns) for talk in named])[judged]
    said = np.stack(
        [
            concern_probabilities(
                model,
                [with_texts(talk, [insert_description(turn.text, word) for turn in talk.turns]) for talk in named],
            )
            for word in words
        ]
    )[:, judged]
    weights = resampled(owner)
    total = weights.sum(axis=1)
    pairs = [(one, other) for one in range(len(words)) for other in range(one)]
    near = np.mean([np.abs(said[one] - said[other]) < LARGEST_STEADY_SHIFT for one, other in pairs], axis=0)
    moved: list[Figures] = [
        {"word": word, "shift": interval(weights @ (said[at] - said.mean(axis=0)) / total).__dict__}
        for at, word in enumerate(words)
    ]
    moved.sort(key=lambda row: float(row["shift"]["value"]))
    return {
        "turns_changed": int(judged.sum()),
        "steady": interval(weights @ near / total).__dict__,
        "words": moved,
        "lowest": moved[0],
        "highest": moved[-1],
    }


def _gender_swap() -> Callable[[str], str]:
    """he <-> she and related words. 'her' becomes 'his' before a noun, else 'him', by spaCy's tagger."""
    import spacy  # noqa: PLC0415 - importing spaCy takes a second

    language = spacy.load(spacy_model(), exclude=["parser", "ner", "senter", "lemmatizer"])

    def swapped(text: str) -> str:
        return "".join(_other_gender_word(token.text, token.tag_) + token.whitespace_ for token in language(text))

    return swapped


def _other_gender_word(word: str, tag: str) -> str:
    low = word.lower()
    if low == "her":
        new = "his" if tag == "PRP$" else "him"
    elif low == "his":
        new = "her" if tag == "PRP$" else "hers"
    else:
        new = {"him": "her", "hers": "his"}.get(low) or _OTHER_GENDER.get(low, low)
    if new == low:
        return word
    return new.upper() if word.isupper() and len(word) > 1 else new.capitalize() if word[0].isupper() else new


def _without(talk: Conversation, turn: int, spans: Sequence[tuple[int, int]]) -> Conversation:
    text = talk.turns[turn].text
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    shorter = Turn(speaker=talk.turns[turn].speaker, text=" ".join(text.split()))
    return talk.model_copy(update={"turns": (*talk.turns[:turn], shorter, *talk.turns[turn + 1 :])})


def _log_odds(chance: float) -> float:
    bounded = min(max(chance, 1e-9), 1 - 1e-9)
    return float(np.log(bounded / (1 - bounded)))


def _mistyped(text: str, rng: random.Random) -> str:
    """Swaps two neighbouring letters at one letter in forty."""
    letters = list(text)
    for at in range(len(letters) - 1):
        if letters[at].isalpha() and letters[at + 1].isalpha() and rng.random() < 1 / 40:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def corpus_names(items: Sequence[LabelledConversation]) -> tuple[str, ...]:
    """The first names of the corpus's people, of every origin in it."""
    return first_names([item.conversation for item in items])
