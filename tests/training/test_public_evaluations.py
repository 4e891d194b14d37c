"""The evaluations on public data, on a few invented lines: what is a hit, what is held out, what is evidence."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from models.search.rank_fusion import Passage
from training import evaluate_ami, evaluate_nhs, evaluate_search


def test_a_passage_is_a_hit_where_half_of_its_words_are_relevant() -> None:
    lengths = [10, 10, 5]
    assert evaluate_search.is_hit(Passage(0, 1), lengths, [(1, 1)])
    assert not evaluate_search.is_hit(Passage(0, 1), lengths, [(2, 2)])
    assert not evaluate_search.is_hit(Passage(0, 2), lengths, [(1, 1)])


@pytest.mark.parametrize(("ranking", "expected"), [([0, 1, 2], 0.5), ([1], 1.0), ([0, 2], 0.0), ([], 0.0)])
def test_the_first_hit_counts(ranking: list[int], expected: float) -> None:
    assert evaluate_search.reciprocal_rank(ranking, np.asarray([False, True, False])) == expected


def test_a_query_keeps_what_it_looks_for() -> None:
    assert evaluate_search.strip_question_words("Summarize the discussion about storage disks") == "storage disks"
    assert evaluate_search.strip_question_words("What did the group discuss?") != ""


def test_search_ranks_what_was_asked_for_first_in_a_real_database(tmp_path: Path) -> None:
    meeting = {
        "meeting_transcripts": [
            {"speaker": "Nia", "content": "the hoist battery is flat again and the engineer comes on Thursday"},
            {"speaker": "Tom", "content": "we should order new garden benches with arms for the residents"},
        ],
        "specific_query_list": [{"query": "What was said about garden benches?", "relevant_text_span": [["1", "1"]]}],
    }
    (tmp_path / "one.json").write_text(json.dumps(meeting), encoding="utf-8")
    collection = evaluate_search.read_collection(tmp_path)
    vectors = {text: np.eye(2, dtype=np.float32)[at] for at, text in enumerate(collection.meetings[0])}
    vectors[collection.queries[0].text] = np.asarray([0.0, 1.0], dtype=np.float32)
    settings = evaluate_search.SearchSettings(words=12)
    figures = asyncio.run(evaluate_search.with_postgres(collection, vectors, settings))
    assert [figures[name]["value"] for name in ("full text", "vectors", "fused")] == [1.0, 1.0, 1.0]


def test_comments_of_the_same_words_stand_on_the_same_side() -> None:
    comments = [evaluate_nhs.Comment(text, "Why?", label) for text, label in (("Nothing.", 2), (" nothing ", 0))]
    assert comments[0].fold == comments[1].fold


def test_every_comment_is_judged_by_what_was_learnt_from_others() -> None:
    comments = [evaluate_nhs.Comment(f"comment number {at}", "Why?", at % 5) for at in range(40)]
    seen: list[set[int]] = []

    def answer(learn: np.ndarray, asked: np.ndarray) -> np.ndarray:
        assert not set(learn) & set(asked)
        seen.append(set(asked))
        return np.eye(5)[[comments[at].label for at in asked]]

    told = evaluate_nhs.held_out(comments, answer).argmax(axis=1)
    assert evaluate_nhs.figure(comments, told)["value"] == 1.0
    assert set.union(*seen) == set(range(40))


def test_evidence_is_what_an_action_links_to(tmp_path: Path) -> None:
    said = [{"speaker": "A", "role": "PM", "text": text, "da": "inf"} for text in ("hello", "you will draw it", "yes")]
    row = {"meeting_id": "X1a", "utterances": said, "has_links": True, "actions": [{"text": "Draw", "evidence": [1]}]}
    file = tmp_path / "meetings.jsonl"
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"has_links": False}), encoding="utf-8")
    [meeting] = evaluate_ami.read_meetings(file)
    assert meeting.truth.tolist() == [False, True, False]
    assert evaluate_ami.utterance_features(meeting).shape[0] == 3
    assert evaluate_ami.figure([meeting], [np.asarray([0.1, 0.9, 0.2])])["value"] == 1.0


def test_neighbours_scores_stand_beside_an_utterances_own() -> None:
    rows = evaluate_ami.neighbour_scores(np.asarray([1.0, 2.0, 3.0]))
    assert rows[1].tolist() == [0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0]
