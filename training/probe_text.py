"""How the text models bear names, spelling and missing roles: `python -m training.probe_text --data DIR`.

Answers the conversations that a fold held out, by that fold's own models, as they are and changed; so no model is
asked about what it learnt from. Needs a finished part of `training/train` under DIR.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evidence import occlusions
from models.minilm import MiniLM, load_tokenizer
from models.ngrams import NgramClassifier, NgramFeatures
from models.records import Conversation, Turn
from models.turn_encoder import TurnEncoder, apply_difference
from models.weights import sentence_encoder
from training.augmentation import as_recognised, first_names, swap_names
from training.calibration import Answers, apply, fit_calibration, gather
from training.dataset import SEED_DATA, SHORT_EXCHANGES, Labelled, dataset_sha256, read_dataset
from training.fine_tuning import TurnHeads
from training.metrics import average_precision, recall_at_false_alarms
from training.parts import answer, read_part
from training.splits import assign_folds, split
from training.train import Settings, run_key

Change = Callable[[Conversation], Conversation]


class FoldModels:
    """One fold's encoder, heads and n-grams, as training left them."""

    def __init__(self, directory: Path) -> None:
        import torch  # noqa: PLC0415 - only this class needs it here

        base = sentence_encoder()
        network = MiniLM.load(base)
        apply_difference(network, read_part(directory, "encoder"))
        self.encoder = TurnEncoder(network, load_tokenizer(base), "fold")
        self.heads = TurnHeads(0.0)
        heads = read_part(directory, "heads")
        self.heads.load_state_dict({name: torch.from_numpy(value) for name, value in heads.items()})
        self.heads.eval()
        document = json.loads((directory / "ngrams.json").read_text(encoding="utf-8"))
        weights = read_part(directory, "ngrams")
        self.ngrams = NgramClassifier(
            NgramFeatures.from_document(document), weights["ngram_weights"], weights["ngram_bias"]
        )

    def chances(self, items: Sequence[Labelled], held_out: Sequence[int], dataset: Sequence[Labelled]) -> Answers:
        """The uncalibrated answers for `items`, which stand at `held_out` in `dataset`."""
        return gather([(held_out, answer(items, self.encoder, self.heads, self.ngrams))], dataset)


def changes(dataset: Sequence[Labelled]) -> dict[str, Change]:
    """The ways in which a conversation is changed without changing what it says."""
    names = first_names([item.conversation for item in dataset])
    draw = random.Random(11)  # noqa: S311 - reproducible swaps, not a secret

    def with_texts(conversation: Conversation, texts: Sequence[str]) -> Conversation:
        pairs = zip(conversation.turns, texts, strict=True)
        return conversation.model_copy(
            update={"turns": tuple(Turn(speaker=turn.speaker, text=text) for turn, text in pairs)}
        )

    return {
        "names swapped": lambda c: with_texts(c, swap_names([turn.text for turn in c.turns], names, draw)),
        "lower case, no marks": lambda c: with_texts(c, [as_recognised(turn.text) for turn in c.turns]),
        "roles unknown": lambda c: c.model_copy(update={"participants": ()}),
        "one letter in forty mistyped": lambda c: with_texts(c, [_mistyped(turn.text, draw) for turn in c.turns]),
    }


def probe(directory: Path, dataset: Sequence[Labelled], held_out: Sequence[int]) -> dict[str, Any]:
    """Per change: AP and recall at 5 % of any concern, and the share of turns whose probability moves under 0.05."""
    models = FoldModels(directory)
    items = [dataset[at] for at in held_out]
    answers = models.chances(items, held_out, dataset)
    fitted = fit_calibration(answers)
    before = apply(fitted, answers)[0][:, -1]
    truth = answers.true_concern[:, -1]
    found = {"unchanged": _figures(truth, before, before)}
    for name, change in changes(dataset).items():
        changed = [replace(item, conversation=change(item.conversation)) for item in items]
        after = apply(fitted, models.chances(changed, held_out, dataset))[0][:, -1]
        found[name] = _figures(truth, after, before)
    return found | {"deletion": _faithfulness(models, items, before, answers)}


def _figures(truth: NDArray[Any], after: NDArray[Any], before: NDArray[Any]) -> dict[str, float]:
    return {
        "average_precision_any": average_precision(truth, after),
        "recall_at_5_percent": recall_at_false_alarms(truth, after, 0.05),
        "moved_less_than_0.05": float((np.abs(after - before) < 0.05).mean()),
    }


def _faithfulness(
    models: FoldModels, items: Sequence[Labelled], before: NDArray[Any], answers: Answers
) -> dict[str, float]:
    """Mean fall of the encoder's log-odds in the whole conversation: without the strongest phrase, without another.

    The phrase is chosen in its local context of two turns; the fall is measured in the whole conversation.
    """
    draw = random.Random(5)  # noqa: S311 - a reproducible choice
    turns = [(item, turn) for item in items for turn in range(len(item.conversation.turns))]
    likely = [pair for pair, chance in zip(turns, before, strict=True) if chance >= 0.5][:80]
    strongest: list[float] = []
    random_phrase: list[float] = []
    for item, turn in likely:
        trials = [t for t in occlusions(item.conversation, turn) if t.removed is None or t.removed[0] == turn]
        if len(trials) < 3:
            continue
        local = [_any_logit(models, trial.conversation, -1) for trial in trials]
        best = int(np.argmin(local[1:])) + 1
        other = draw.choice([at for at in range(1, len(trials)) if at != best])
        whole = _any_logit(models, item.conversation, turn)
        for at, falls in ((best, strongest), (other, random_phrase)):
            falls.append(whole - _any_logit(models, _without(item.conversation, trials[at].removed), turn))
    return {
        "turns": float(len(strongest)),
        "fall_without_evidence": float(np.mean(strongest)),
        "fall_without_another_phrase": float(np.mean(random_phrase)),
        "evidence_fell_more": float(np.mean(np.asarray(strongest) > np.asarray(random_phrase))),
    }


def _any_logit(models: FoldModels, conversation: Conversation, turn: int) -> float:
    import torch  # noqa: PLC0415 - as above

    [found] = models.encoder.encode([conversation])
    owner = turn if turn >= 0 else int(found.turn_of[-1])
    with torch.inference_mode():
        logits = models.heads(torch.from_numpy(found.vectors[found.turn_of == owner]))["concern"][:, -1]
    return float(logits.max())


def _without(conversation: Conversation, removed: tuple[int, int, int] | None) -> Conversation:
    if removed is None:
        return conversation
    at, start, end = removed
    turn = conversation.turns[at]
    shorter = Turn(speaker=turn.speaker, text=turn.text[:start] + turn.text[end:])
    return conversation.model_copy(update={"turns": (*conversation.turns[:at], shorter, *conversation.turns[at + 1 :])})


def _mistyped(text: str, draw: random.Random) -> str:
    """Two neighbouring letters change places at one letter in forty."""
    letters = list(text)
    for at in range(len(letters) - 1):
        if letters[at].isalpha() and letters[at + 1].isalpha() and draw.random() < 1 / 40:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.probe_text", description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="where state lies")
    arguments.add_argument("--fold", type=int, default=0)
    given = arguments.parse_args()
    settings, dataset = Settings(), read_dataset()
    folds = assign_folds([item.conversation.id for item in dataset], [item.risk for item in dataset])
    directory = (
        given.data / "training" / run_key(dataset_sha256(SEED_DATA, SHORT_EXCHANGES), settings) / f"fold-{given.fold}"
    )
    print(json.dumps(probe(directory, dataset, split(folds, given.fold).held_out), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
