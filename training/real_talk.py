"""Real conversations of public data sets: harmless turns to train on, and a held-out set to measure false alarms.

`--public DIR` names a folder that has the sets as published; nothing of them is copied into the project. A whole
document is on one side: the publishers' training files are trained on, their validation and test files are held out.
Licences: ACI-Bench and MTS-Dialog CC BY 4.0, AMI CC BY 4.0, QMSum MIT, e-mail intents Apache-2.0, GoEmotions Apache-2.0
(data CC BY 4.0). All of them permit training, with attribution (THIRD_PARTY.md).
"""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.contract.records import CATEGORIES, Conversation, Participant, Turn
from training.dataset import LabelledConversation

_Line = tuple[str, str, str]  # speaker, role, words
_Document = tuple[str, list[_Line]]  # its name in the set, and its turns

UNKNOWN_SENTIMENT: Final = -100
_EXCERPT_WORDS: Final = 260
_HELD_OUT_TURNS: Final = 120  # of a document: meetings are long, and their rest is much like their beginning
# Words of real harm. No label says whether such a turn is harmless, so it is neither trained on nor counted.
_DOUBTFUL: Final = re.compile(
    r"\b(fell|falls?|fallen|falling|abus\w*|suicid\w*|kill\w*|overdos\w*|assault\w*|rap(e|ed|ist)|murder\w*|stole|stolen"
    r"|beat(en)?|punch\w*|slap\w*|attack\w*|violen\w*|molest\w*|die|dead|death|threat\w*|bull(y|ied|ying)|racis\w*"
    r"|nigg\w*|fag\w*|retard\w*|self.harm\w*|hurt (my|him|her)self|neglect\w*|trafficking|slave\w*|domestic"
    r"|scam\w*|fraud\w*|missing|bruis\w*|fractur\w*|broken?|burn\w*|forgot to take|missed (a|my|the) dose\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RealTalk:
    """One public set. `learn`: excerpts of some 260 words. `held_out`: documents, cut after 120 turns."""

    name: str
    kind: str
    learn: tuple[LabelledConversation, ...]
    held_out: tuple[LabelledConversation, ...]


def read_real_talk(public: Path) -> list[RealTalk]:
    """Reads every set whose files are in the folder. Reports missing sets on standard error."""
    found = []
    for name, (kind, learn, held_out) in _SETS.items():
        try:
            learnt, asked = list(learn(public)), list(held_out(public))
        except FileNotFoundError as error:
            print(
                f"real talk: {name} is not in the folder of public sets ({error.filename}); left out", file=sys.stderr
            )
            continue
        excerpts = tuple(_labelled(name, part, kind) for document in learnt for part in _excerpts(document))
        whole = tuple(_labelled(name, (key, lines[:_HELD_OUT_TURNS]), kind) for key, lines in asked)
        found.append(RealTalk(name, kind, excerpts, whole))
    return found


def mentions_harm(text: str) -> bool:
    """Whether the turn has a word of real harm, so that 'harmless' would be a guess."""
    return _DOUBTFUL.search(text) is not None


def _labelled(name: str, document: _Document, kind: str) -> LabelledConversation:
    key, lines = document
    concerns = np.zeros((len(lines), len(CATEGORIES) + 1), dtype=np.float32)
    concerns[[mentions_harm(text) for _, _, text in lines]] = np.nan
    roles = {speaker: role for speaker, role, _ in lines} if _hash_fraction(key) < 0.5 else {}
    conversation = Conversation(
        id=f"{name}-{key}",
        channel="call",
        participants=tuple(Participant(speaker=speaker, role=role, name=None) for speaker, role in roles.items()),
        turns=tuple(Turn(speaker=speaker, text=text) for speaker, _, text in lines),
    )
    return LabelledConversation(
        conversation=conversation,
        concerns=concerns,
        severity=np.full(len(lines), -1, dtype=np.int64),
        sentiment=np.full(len(lines), UNKNOWN_SENTIMENT, dtype=np.int64),
        commits=np.full(len(lines), np.nan, dtype=np.float32),
        risk="none",
        summary="",
        actions=(),
        hard_negative=False,
        source=f"real_talk/{name}",
        style=kind,
    )


def _excerpts(document: _Document) -> Iterator[_Document]:
    """Neighbouring turns of about 260 words, one excerpt after the other."""
    key, lines = document
    part: list[_Line] = []
    words = number = 0
    for line in lines:
        part.append(line)
        words += len(line[2].split())
        if words >= _EXCERPT_WORDS:
            yield f"{key}-{number}", part
            part, words, number = [], 0, number + 1
    if part:
        yield f"{key}-{number}", part


def _hash_fraction(key: str) -> float:
    """A number from 0 to 1 that depends only on the key, so that documents are split the same on every machine."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def _clean_text(text: str) -> str:
    """Ordinary spelling: no transcribers' marks in braces, no space before punctuation, letter names as letters."""
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text).replace("_", " ")
    return re.sub(r"\s+([.,?!;:'])", r"\1", re.sub(r"\s+", " ", text)).strip()


def _merge_lines(lines: Sequence[_Line]) -> list[_Line]:
    """Merges neighbouring lines of one speaker into one turn, up to 40 words. Drops empty lines."""
    turns: list[_Line] = []
    for speaker, role, text in lines:
        words = _clean_text(text)
        if not words:
            continue
        if turns and turns[-1][0] == speaker and len(turns[-1][2].split()) + len(words.split()) <= 40:
            turns[-1] = (speaker, role, f"{turns[-1][2]} {words}")
        else:
            turns.append((speaker, role, words))
    return turns


def _consultation(dialogue: str) -> list[_Line]:
    lines = []
    for line in dialogue.splitlines():
        match = re.match(r"\s*\[?([A-Za-z_ ]{3,20})\]?\s*:?\s+(.*)", line)
        if match is None or not match[2].strip():
            continue
        who = match[1].strip().lower()
        role = "gp" if "doc" in who or "clinician" in who else "family" if "guest" in who else "other"
        lines.append((who, role, _clean_text(match[2])))
    return lines


def _csv_dialogues(*parts: str, key: str) -> Callable[[Path], Iterator[_Document]]:
    def read(public: Path) -> Iterator[_Document]:
        csv.field_size_limit(10_000_000)
        for part in parts:
            with (public / part).open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    lines = _consultation(row["dialogue"])
                    if lines:
                        yield f"{Path(part).stem}-{row[key]}", lines

    return read


def _ami(part: str) -> Callable[[Path], Iterator[_Document]]:
    def read(public: Path) -> Iterator[_Document]:
        with (public / "ami_meetings" / part).open(encoding="utf-8") as stream:
            for line in stream:
                meeting = json.loads(line)
                yield (
                    meeting["meeting_id"],
                    _merge_lines([(u["speaker"], "other", u["text"]) for u in meeting["utterances"]]),
                )

    return read


def _qmsum(part: str) -> Callable[[Path], Iterator[_Document]]:
    """Without the meetings that are also in AMI."""

    def read(public: Path) -> Iterator[_Document]:
        folder = public / "qmsum" / part
        if not folder.is_dir():
            raise FileNotFoundError(2, "no such folder", str(folder))
        for file in sorted(folder.glob("*.json")):
            if file.stem.startswith(("ES", "IS", "TS")):
                continue
            said = json.loads(file.read_text(encoding="utf-8"))["meeting_transcripts"]
            yield file.stem, _merge_lines([(line["speaker"], "other", line["content"]) for line in said])

    return read


def _email_lines(held_out: bool) -> Callable[[Path], Iterator[_Document]]:
    def read(public: Path) -> Iterator[_Document]:
        lines = (
            (public / "email_intent" / "train_Ask0729.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        )
        for number, line in enumerate(lines):
            text = _clean_text(line.partition("\t")[2])
            if text and (_hash_fraction(text) < 0.2) == held_out:
                yield str(number), [("S1", "other", text)]

    return read


def _comments(part: str, share: float) -> Callable[[Path], Iterator[_Document]]:
    """Public comments, one per document, as everyday short lines. Comments on harm are left out."""

    def read(public: Path) -> Iterator[_Document]:
        for line in (public / "goemotions" / part).read_text(encoding="utf-8").splitlines():
            text, _, key = line.split("\t")
            if _hash_fraction(key) < share and not mentions_harm(text):
                yield key, [("S1", "other", re.sub(r"\[(NAME|RELIGION)\]", "Sam", text))]

    return read


_ACI: Final = ("aci_bench/valid.csv", "aci_bench/clinicalnlp_taskB_test1.csv")
_MTS: Final = (
    "mts_dialog/MTS-Dialog-ValidationSet.csv",
    "mts_dialog/MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv",
)
_SETS: Final = {
    "aci": (
        "consultation",
        _csv_dialogues("aci_bench/train.csv", key="encounter_id"),
        _csv_dialogues(*_ACI, key="encounter_id"),
    ),
    "mts": (
        "consultation",
        _csv_dialogues("mts_dialog/MTS-Dialog-TrainingSet.csv", key="ID"),
        _csv_dialogues(*_MTS, key="ID"),
    ),
    "ami": ("meeting", _ami("ami_train.jsonl"), _ami("ami_dev.jsonl")),
    "qmsum": ("meeting", _qmsum("train"), _qmsum("val")),
    "mails": ("e-mail", _email_lines(held_out=False), _email_lines(held_out=True)),
    "comments": ("short lines", _comments("train.tsv", 0.2), _comments("dev.tsv", 0.2)),
}
