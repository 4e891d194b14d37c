"""Finds the similarity floor of the search by meaning: what each floor keeps out, and what it loses.

    python -m benchmarks.search_floor --qmsum DIR --care DIR [--most N]

A floor is a minimum cosine similarity. Queries that should find something: in each meeting of QMSum's `val`, its
specific queries (a hit is a message in a relevant span); in the invented care conversations, searched together, the
first sentence of each conversation's summary (a hit is a turn of that conversation). Queries that should find nothing:
questions on unrelated topics, asked of all messages of both sets. Vectors are compared one by one (exact search).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.weights import sentence_encoder
from models.text.embedding import EmbeddingModel
from training.evaluate_search import read_collection

FLOORS: Final = (0.0, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
FIRST: Final = 10
UNRELATED: Final = (
    "zebra quantum physics", "penalty shoot-out in the cup final", "how to compile a kernel module",
    "volcano eruption in Iceland", "stock exchange of Tokyo", "the treaty of Versailles", "orbit of Jupiter's moons",
    "chess opening with the queen's gambit", "photosynthesis in algae", "blockchain mining rig",
    "guitar tuning for flamenco", "Roman legions in Gaul", "surfing waves in Hawaii", "sonnet by Petrarch",
    "submarine periscope", "dinosaur fossils in Patagonia", "carburettor of a motorcycle", "opera in Milan",
    "black holes and neutron stars", "camel caravan across the Sahara", "knitting machine of the 18th century",
    "differential equations", "samurai sword forging", "coral reef bleaching", "space shuttle launch",
    "poker tournament in Las Vegas", "Viking longship", "sourdough starter hydration", "ski jump world record",
    "parliament of Norway", "beekeeping in winter", "spark plug gap", "medieval castle siege", "jazz trumpet solo",
    "glacier retreat", "Fourier transform", "pirate treasure map", "rugby scrum rules", "Inca road network",
    "telescope mirror polishing",
)  # fmt: skip

Vectors = NDArray[np.float32]


def reciprocal_rank_above(similar: Vectors, hits: NDArray[np.bool_], floor: float) -> float:
    """1 / rank of the first hit among messages at or above the floor; 0 if there is none."""
    order = np.argsort(-similar, kind="stable")
    found = np.flatnonzero(hits[order] & (similar[order] >= floor))
    return 0.0 if len(found) == 0 else 1.0 / (found[0] + 1)


def print_floors(name: str, asked: Sequence[tuple[Vectors, NDArray[np.bool_]]], unrelated: Vectors) -> None:
    """`asked`: each query's similarities and its hits. `unrelated`: the best similarity of each unrelated question."""
    print(f"{name}: {len(asked)} queries, {len(unrelated)} unrelated questions", flush=True)
    for floor in FLOORS:
        found = np.asarray([reciprocal_rank_above(similar, hits, floor) for similar, hits in asked])
        relevant = np.mean([(hits & (similar >= floor)).sum() / hits.sum() for similar, hits in asked])
        print(
            f"  floor {floor:.2f}: MRR {found.mean():.3f}, among the first {FIRST} {(found >= 1 / FIRST).mean():.3f}, "
            f"relevant messages kept {relevant:.3f}, queries with nothing at all "
            f"{np.mean([(similar < floor).all() for similar, _ in asked]):.3f}; unrelated that find nothing "
            f"{(unrelated < floor).mean():.3f}",
            flush=True,
        )


def meetings(model: EmbeddingModel, directory: Path, most: int | None, questions: Vectors) -> None:
    """QMSum: each query is searched in its own meeting."""
    collection = read_collection(directory / "val")
    kept = collection.meetings[:most]
    rows = [model.embed([line.partition(": ")[2] or "-" for line in said]) for said in kept]
    queries = [query for query in collection.queries if query.meeting < len(kept)]
    asked = []
    for query, vector in zip(queries, model.embed([query.text for query in queries]), strict=True):
        hits = np.zeros(len(rows[query.meeting]), dtype=bool)
        for first, last in query.spans:
            hits[first : last + 1] = True
        if hits.any():
            asked.append((rows[query.meeting] @ vector, hits))
    print_floors("meetings", asked, (questions @ np.concatenate(rows).T).max(axis=1))


def care(model: EmbeddingModel, directory: Path, most: int | None, questions: Vectors) -> None:
    """The care conversations, searched together."""
    files = sorted(directory.glob("train-*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    random = np.random.default_rng(5)
    chosen = [lines[at] for at in random.permutation(len(lines))[: None if most is None else most * 40]]
    whose = np.repeat(np.arange(len(chosen)), [len(one["turns"]) for one in chosen])
    rows = model.embed([turn["text"] for one in chosen for turn in one["turns"]])
    summary_vectors = model.embed([one["summary"].partition(". ")[0] for one in chosen])
    asked = [(rows @ vector, whose == at) for at, vector in enumerate(summary_vectors)]
    print_floors("care conversations", asked, (questions @ rows.T).max(axis=1))


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.search_floor", description=__doc__)
    arguments.add_argument("--qmsum", type=Path, required=True, metavar="DIR", help="the folder that holds val/")
    arguments.add_argument("--care", type=Path, required=True, metavar="DIR", help="the folder of train-*.jsonl")
    arguments.add_argument("--most", type=int, default=None, help="number of meetings; 40 times as many conversations")
    options = arguments.parse_args()
    model = EmbeddingModel.load(sentence_encoder())
    questions = model.embed(UNRELATED)
    care(model, options.care, options.most, questions)
    meetings(model, options.qmsum, options.most, questions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
