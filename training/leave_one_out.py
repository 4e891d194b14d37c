"""Leaves out each source and each style in turn: `python -m training.leave_one_out [--data DIR]`.

A concern classifier is trained on all corpora except one file (a source: one writer) or one brief (a style), and is
evaluated on that part. Training the encoder for each part would take too long. So the shipped encoder stays as it is,
and only a logistic layer over its vectors is fitted. This cheap protocol gives figures that are too good, because the
encoder was trained on the left-out part. `training/unseen_style_figures.py` has the expensive figure: its encoder's
upper layers never saw two of the styles.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from models.artefacts.files import load_manifest
from models.artefacts.weights import mpnet
from models.registry.champions import SHIPPED
from models.text.safeguarding import turn_maxima
from models.text.turn_encoder import TurnEncoder
from training.dataset import LabelledConversation, dataset_sha256, read_dataset
from training.metrics import average_precision, bootstrap, recall_at_false_alarms

_DIMENSIONS: Final = 256  # principal components of 1536 dimensions: a fit takes seconds instead of a minute
_STRENGTH: Final = 0.03
_FALSE_ALARMS: Final = 0.025  # on the other parts, where the threshold is chosen
_FEW: Final = 10  # turns with a concern: a part with fewer gets no figure
_AT_ONCE: Final = 64  # conversations


@dataclass(frozen=True)
class LeftOutResult:
    """The figures of a model not trained on `name`. The last two use a threshold chosen on the other parts."""

    kind: str
    name: str
    turns: int
    voiced: int
    average_precision: str
    recall_at_1_percent: float
    recall_at_5_percent: float
    concerns_flagged: float
    ordinary_flagged: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training.leave_one_out", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="the data folder")
    options = parser.parse_args()
    dataset = read_dataset()
    vectors = _vectors(dataset, options.data)
    print("| left out | turns, with a concern | AP | at 1 % | at 5 % | concerns, ordinary flagged |")
    print("|---|---|---|---|---|---|")
    for row in left_out(dataset, vectors):
        print(
            f"| {row.kind} {row.name} | {row.turns}, {row.voiced} | {row.average_precision} | "
            f"{row.recall_at_1_percent:.3f} | {row.recall_at_5_percent:.3f} | "
            f"{row.concerns_flagged:.3f}, {row.ordinary_flagged:.3f} |",
            flush=True,
        )
    return 0


def left_out(dataset: Sequence[LabelledConversation], vectors: NDArray[np.float32]) -> Iterator[LeftOutResult]:
    """Styles first, then sources. `vectors`: one row per turn of the conversations, in order."""
    owner = np.concatenate([np.full(len(item.conversation.turns), at) for at, item in enumerate(dataset)])
    truth = np.concatenate([item.concerns[:, -1] for item in dataset])
    reduced = PCA(min(_DIMENSIONS, *vectors.shape), random_state=0).fit_transform(vectors)
    for kind in ("style", "source"):
        part = np.asarray([getattr(item, kind) for item in dataset])[owner]
        for name in dict.fromkeys(part):
            asked = part == name
            if truth[asked].sum() >= _FEW and not asked.all():
                yield _evaluate_part((kind, str(name)), asked, owner, truth, reduced)


def _evaluate_part(
    named: tuple[str, str],
    asked: NDArray[np.bool_],
    owner: NDArray[np.int64],
    truth: NDArray[np.float32],
    reduced: NDArray[np.float32],
) -> LeftOutResult:
    layer = LogisticRegression(C=_STRENGTH, max_iter=300).fit(reduced[~asked], truth[~asked])
    chance = layer.decision_function(reduced)
    threshold = np.quantile(chance[~asked & (truth == 0)], 1.0 - _FALSE_ALARMS)
    said, known = chance[asked], truth[asked]
    found = bootstrap(owner[asked], lambda rows: average_precision(known[rows], said[rows]), resamples=200)
    return LeftOutResult(
        *named,
        int(asked.sum()),
        int(known.sum()),
        f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})",
        recall_at_false_alarms(known, said, 0.01),
        recall_at_false_alarms(known, said, 0.05),
        float((said[known == 1] > threshold).mean()),
        float((said[known == 0] > threshold).mean()),
    )


def _vectors(dataset: Sequence[LabelledConversation], data: Path) -> NDArray[np.float32]:
    """The shipped encoder's vector of every turn (of a long one the maximum over its parts), cached in `data`."""
    encoder = TurnEncoder.load(SHIPPED / "turn_encoder", mpnet(data / "models"))
    key = load_manifest(SHIPPED / "turn_encoder").files["weights.safetensors"][:12] + dataset_sha256()[:12]
    file = data / "leave_one_out" / f"{key}.safetensors"
    if not file.exists():
        rows = []
        for start in range(0, len(dataset), _AT_ONCE):
            found = encoder.encode([item.conversation for item in dataset[start : start + _AT_ONCE]])
            rows += [turn_maxima(one.vectors, one.turn_of) for one in found]
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": np.concatenate(rows).astype(np.float16)}, file)
    return np.asarray(load_file(file)["vectors"], dtype=np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
