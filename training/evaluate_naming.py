"""Evaluates speaker naming from the spoken words: fits the weights of its cues, and counts correct names.

    python -m training.evaluate_naming

Uses conversations of the corpora with at least two named speakers, halved by conversation: one half fits the weights of
`models/speech/speaker_names.py` (a logistic regression over pairs of speaker and name), the other is reported. The
speakers' labels say nothing of their names. The conversations are invented, and most are written text, not recognised.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.linear_model import LogisticRegression

from models.contract.json_lines import read_json_lines
from models.contract.records import Turn
from models.speech import speaker_names
from training.metrics import interval

_CORPORA: Final = Path(__file__).parent / "data"
_RESAMPLED: Final = 1000


def main() -> None:
    talks = _talks()
    learn, report = talks[::2], talks[1::2]
    fitted = _fit(learn)
    print("fitted on", len(learn), "conversations:", {cue: round(weight, 2) for cue, weight in fitted.items()})
    print(json.dumps(_figures(report), indent=1))


def _talks() -> list[dict[str, Any]]:
    files = sorted(_CORPORA.glob("*_conversations/*.jsonl"))
    rows = [row for file in files for row in read_json_lines(file)]
    return [row for row in rows if len(_named(row)) > 1]


def _named(row: dict[str, Any]) -> dict[str, str]:
    speaking = {turn["speaker"] for turn in row["turns"]}
    return {
        one["speaker"]: one["name"] for one in row["participants"] if one.get("name") and one["speaker"] in speaking
    }


def _turns(row: dict[str, Any]) -> list[Turn]:
    return [Turn(speaker=turn["speaker"], text=turn["text"]) for turn in row["turns"]]


def _fit(rows: Sequence[dict[str, Any]]) -> dict[speaker_names.Cue, float]:
    columns, right = [], []
    for row in rows:
        names = _named(row)
        speakers = sorted(names)
        counts, _ = speaker_names.count_cues(
            [turn for turn in _turns(row) if turn.speaker in names], speakers, [names[one] for one in speakers]
        )
        columns.append(counts.reshape(-1, len(speaker_names.CUES)))
        right.append(np.eye(len(speakers)).ravel())
    model = LogisticRegression(C=1.0).fit(np.concatenate(columns), np.concatenate(right))
    return dict(zip(speaker_names.CUES, model.coef_[0].tolist(), strict=True))


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Proposed and correct names, as shares, with 95 % intervals by conversation."""
    voices, proposed, right = (np.zeros(len(rows)) for _ in range(3))
    for at, row in enumerate(rows):
        names = _named(row)
        participants = sorted(names.values())
        found = speaker_names.propose_names(_turns(row), participants)
        voices[at] = len(names)
        proposed[at] = len(found)
        right[at] = sum(names.get(one.speaker) == participants[one.participant] for one in found)
    random = np.random.default_rng(0)
    drawn = np.vstack([np.arange(len(rows)), random.integers(0, len(rows), (_RESAMPLED, len(rows)))])
    return {
        "conversations": len(rows),
        "voices": int(voices.sum()),
        "proposed": str(interval(proposed[drawn].sum(1) / voices[drawn].sum(1))),
        "right of proposed": str(interval(right[drawn].sum(1) / proposed[drawn].sum(1))),
    }


if __name__ == "__main__":
    main()
