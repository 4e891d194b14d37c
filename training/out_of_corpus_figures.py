"""Figures of a version outside the corpora it was trained on: the first figures of a report and of a model card.

*Plain lines*: is each plain disclosure of our own table flagged in its category, and no harmless line? *Real talk*: how
much of the public sets' held-out conversations, in which nobody is harmed, is flagged? *Other styles*: how good are the
predictions of a version trained by the same recipe without whole briefs (`training/unseen_style_figures.py`)?
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import CATEGORIES, Conversation, Turn, TurnAssessment
from models.text.safeguarding import SafeguardingModel
from pipelines.alerting import warrants_alert
from training.metrics import bootstrap_mean
from training.real_talk import RealTalk

PLAIN_LINES_FILE: Final = Path(__file__).parent / "data" / "plain_table" / "lines.tsv"
HARMLESS: Final = "none"
_AT_ONCE: Final = 32  # conversations

Figures = dict[str, Any]


@dataclass(frozen=True)
class PlainLine:
    """One line of the table; `category` is one of the 15, or `none`."""

    category: str
    register: str
    text: str

    def conversation(self) -> Conversation:
        return Conversation(id="line", channel="call", participants=(), turns=(Turn(speaker="S1", text=self.text),))


def plain_lines() -> list[PlainLine]:
    """The table, in order."""
    rows = PLAIN_LINES_FILE.read_text(encoding="utf-8").splitlines()[1:]
    return [PlainLine(*row.split("\t")) for row in rows]


def plain_figures(model: SafeguardingModel, lines: Sequence[PlainLine]) -> Figures:
    """Shares with intervals over lines, and those of each category and register of disclosures."""
    found = [turns[0] for turns in _assessed(model, [line.conversation() for line in lines])]
    flagged = np.asarray([bool(one.concerns) for one in found])
    named = np.asarray(
        [line.category in [c.category for c in one.concerns] for line, one in zip(lines, found, strict=True)]
    )
    category = np.asarray([line.category for line in lines])
    register = np.asarray([line.register for line in lines])
    has_concern = category != HARMLESS
    parts = [("category", str(name), category == name) for name in CATEGORIES]
    parts += [("register", str(name), has_concern & (register == name)) for name in np.unique(register[has_concern])]
    return {
        "disclosures": int(has_concern.sum()),
        "harmless_lines": int((~has_concern).sum()),
        "disclosures_flagged": _share(flagged[has_concern]),
        "disclosures_in_their_category": _share(named[has_concern]),
        "harmless_lines_flagged": _share(flagged[~has_concern]),
        "parts": [
            {
                "kind": kind, "name": name, "lines": int(mask.sum()),
                "flagged": float(flagged[mask].mean()), "in_their_category": float(named[mask].mean()),
            }
            for kind, name, mask in parts
            if mask.any()
        ],
    }  # fmt: skip


def real_talk_figures(model: SafeguardingModel, sets: Sequence[RealTalk]) -> list[Figures]:
    """For each public set the shares of held-out turns and of whole documents that are flagged, and of alerts.

    Turns with a word of real harm count, too. Some of them are rightly flagged, so the figures are an upper bound.
    """
    return [_set_figures(model, one) for one in sets if one.held_out]


def _set_figures(model: SafeguardingModel, talk: RealTalk) -> Figures:
    found = _assessed(model, [item.conversation for item in talk.held_out])
    owner = np.concatenate([np.full(len(turns), at) for at, turns in enumerate(found)])
    flagged = np.asarray([bool(turn.concerns) for turns in found for turn in turns], dtype=float)
    documents = np.asarray([any(turn.concerns for turn in turns) for turns in found])
    alerts = np.asarray([warrants_alert([turn.concerns for turn in turns]) for turns in found])
    return {
        "set": talk.name,
        "kind": talk.kind,
        "documents": len(found),
        "turns": len(owner),
        "turns_flagged": asdict(bootstrap_mean(owner, flagged)),
        "documents_flagged": _share(documents),
        "documents_with_an_alert": _share(alerts),
    }


def _assessed(model: SafeguardingModel, asked: Sequence[Conversation]) -> list[tuple[TurnAssessment, ...]]:
    found: list[tuple[TurnAssessment, ...]] = []
    for start in range(0, len(asked), _AT_ONCE):
        found += model.score(asked[start : start + _AT_ONCE])
    return found


def _share(hit: NDArray[Any]) -> Figures:
    return asdict(bootstrap_mean(np.arange(hit.size), hit.astype(float)))
