"""The report: figures on hand-made predictions, the page on the shipped held-out answers, its files and MLflow runs."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from mlflow import MlflowClient

from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from models.contract.records import CATEGORIES
from models.registry.champions import SHIPPED
from models.registry.mlflow_registry import mlflow_client
from tests.text_models import conversation, text_models
from training.dataset import CORPORA, parse_labelled
from training.evaluate_text import main
from training.probe_text import (
    DESCRIPTIONS,
    PERTURBATION_COUNT,
    corpus_names,
    faithfulness,
    insert_description,
    perturbations,
    probe,
)
from training.report.comparison import comparison_figures
from training.report.material import (
    EvaluationSet,
    Notes,
    count_held_out,
    count_in_training_data,
    load_corpus,
    read_material,
)
from training.report.page import comparison_page, page
from training.report.plots import draw
from training.report.predictions import VersionPredictions, find_version, held_out_predictions
from training.report.sections import report_figures
from training.report.tracking import EXPERIMENT, default_store, log_run, metrics, require_local_store


def row(number: int, *labels: str, severity: str = "high") -> dict[str, Any]:
    """A conversation with one turn per label; '' is an ordinary turn."""
    return {
        "id": f"c{number}",
        "channel": "call" if number % 2 else "chat",
        "participants": [{"speaker": "S1", "role": "resident", "name": "Rosa"}],
        "turns": [
            {
                "speaker": "S1",
                "text": f"words of {number} {at}",
                "concerns": [{"category": label, "severity": severity}] if label else [],
                "sentiment": "neutral",
            }
            for at, label in enumerate(labels)
        ],
        "risk": "high" if any(labels) else "none",
        "summary": "Rosa said something.",
        "hard_negative": not any(labels),
    }


def reading(any_chances: list[list[float]], rows: list[dict[str, Any]]) -> VersionPredictions:
    """Predictions in which each turn's probability is in one category: its label, or neglect if it has none."""
    items = tuple(parse_labelled(one) for one in rows)
    flat = np.asarray([chance for chances in any_chances for chance in chances], dtype=np.float32)
    truth = np.concatenate([item.concerns for item in items])
    concern = np.zeros((len(flat), len(CATEGORIES) + 1), dtype=np.float32)
    told = np.where(truth[:, -1] == 1, truth[:, :-1].argmax(axis=1), CATEGORIES.index("neglect"))
    concern[np.arange(len(flat)), told] = flat
    concern[:, -1] = flat
    owner = np.repeat(np.arange(len(items)), [len(item.conversation.turns) for item in items])
    return VersionPredictions(
        name="0.0.1",
        learnt="It has not learnt from them.",
        material=EvaluationSet(items, tuple(Notes(at % 2 == 0, ("banter",)) for at in range(len(items)))),
        owner=owner,
        concern=concern,
        severity=np.where(flat >= 0.5, 2, 0),
        sentiment=np.tile(np.asarray([0.1, 0.8, 0.1], dtype=np.float32), (len(flat), 1)),
        commitment=flat,
        risk=np.asarray([3] * len(items)),
        risk_chance=np.ones(len(items), dtype=np.float32),
        rouge=np.full(len(items), 0.2),
        thresholds=np.full(len(CATEGORIES), 0.5),
        commitment_threshold=0.5,
    )


ROWS = [
    row(0, "", "neglect"),
    row(1, "", ""),
    row(2, "self_harm", "", severity="critical"),
    row(3, "", "falls_injury"),
]
CHANCES = [[0.1, 0.9], [0.2, 0.6], [0.3, 0.05], [0.02, 0.8]]


@cache
def small() -> VersionPredictions:
    return reading(CHANCES, ROWS)


@cache
def shipped() -> dict[str, Any]:
    """The figures of the shipped version, as the command computes them."""
    figures = report_figures(held_out_predictions(load_corpus()[0]))
    return figures | {"others": {}, "made": "today", "command": "./writecare evaluate", "drawings": {}}


def test_what_is_flagged_missed_and_falsely_alarmed_is_counted_by_hand() -> None:
    figures = report_figures(small())
    assert figures["safeguarding"]["concern_turns_flagged"]["value"] == pytest.approx(2 / 3)
    assert figures["safeguarding"]["ordinary_turns_flagged"]["value"] == pytest.approx(1 / 5)
    assert figures["safeguarding"]["critical_turns_flagged"]["value"] == 0.0
    [missed] = figures["missed_critical"]
    assert (missed["conversation"], missed["turn"], missed["labels"]) == ("c2", 0, ["self_harm"])
    assert figures["worst_false_alarms"][0]["conversation"] == "c1"
    assert figures["hard_negatives"][0]["conversations_with_a_false_alarm"] == 1


def test_a_missed_concern_stands_in_the_last_column_of_the_confusion() -> None:
    confused = np.asarray(report_figures(small())["category_confusion"])
    assert confused.sum() == 3
    assert confused[CATEGORIES.index("self_harm"), -1] == 1
    assert confused[CATEGORIES.index("neglect"), CATEGORIES.index("neglect")] == 1


def test_looking_lower_shows_more_of_both() -> None:
    rows = report_figures(held_out_predictions(load_corpus()[0]))["look_again"]
    shipped, band, *wanted = rows
    assert [shipped["rule"], band["rule"]] == ["shipped", "band"]
    assert band["turns_in_band"] > band["concerns_in_band"] > 0
    assert band["ordinary_turns_shown"]["value"] <= 0.3
    assert band["critical_turns_shown"]["value"] >= shipped["critical_turns_shown"]["value"]
    recall = [one["recall"]["value"] for one in [shipped, *wanted]]
    shown = [one["turns_shown"] for one in [shipped, *wanted]]
    assert recall == sorted(recall)
    assert shown == sorted(shown)
    for one, share in zip(wanted, (0.90, 0.95, 0.98), strict=True):
        assert one["recall"]["low"] - 0.02 <= share <= one["recall"]["high"] + 0.02


def test_the_parts_of_a_kind_cover_every_turn_once() -> None:
    figures = shipped()
    for kind in ("channel", "written", "turn length"):
        assert sum(one["turns"] for one in figures["slices"] if one["kind"] == kind) == figures["turns"]


def test_the_report_of_the_shipped_version_is_made_from_its_held_out_answers() -> None:
    text = page(shipped())
    for heading in ("At a glance", "By category", "By channel", "Hard negatives", "Worst misses", "Worst false alarms"):
        assert heading in text
    assert not re.search(r"\bnan\b", text)
    widths = {line.count(" | ") for line in text.split("### By channel")[1].split("###")[0].splitlines() if "|" in line}
    assert len(widths) == 1


def test_a_case_shows_two_turns_on_either_side() -> None:
    for case in shipped()["worst_misses"]:
        around = [line["turn"] for line in case["lines"]]
        assert around == list(range(around[0], around[-1] + 1))
        assert case["turn"] - 2 <= around[0] <= case["turn"] <= around[-1] <= case["turn"] + 2


def test_drawings_need_no_network_and_are_the_same_each_time(tmp_path: Path) -> None:
    figures = report_figures(small())
    first, second = (draw(figures, small(), tmp_path / name) for name in ("first", "second"))
    for name, file in first.items():
        assert file.read_bytes() == second[name].read_bytes()
        assert not re.search(r"(href|src)=.https?:", file.read_text("utf-8"))


def test_a_better_version_shows_in_the_difference_and_in_the_turns_that_moved() -> None:
    better = reading([[0.1, 0.9], [0.2, 0.1], [0.8, 0.05], [0.02, 0.8]], ROWS)
    figures = comparison_figures(better, small())
    by_name = {one["figure"]: one for one in figures["figures"]}
    assert by_name["average_precision_any"]["difference"]["value"] > 0
    assert by_name["summary_rouge_1"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (figures["newly_flagged_concerns"], figures["lost_false_alarms"]) == (1, 1)
    assert [(c["conversation"], c["turn"]) for c in figures["risen"]] == [("c2", 0)]
    assert [(c["conversation"], c["turn"]) for c in figures["fallen"]] == [("c1", 1)]
    text = comparison_page(figures | {"made": "today", "command": "x", "own_data": False})
    assert "| summary, ROUGE-1 |" in text


def test_a_version_is_found_by_number_and_by_folder_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    number = find_version(str(SHIPPED), tmp_path).name
    assert find_version(number, tmp_path).artefacts["risk"] == SHIPPED / "risk"
    with pytest.raises(WriteCareError, match="no known version"):
        find_version("99.0.0", tmp_path)


def test_two_versions_are_asked_about_given_conversations_and_it_is_said_that_they_know_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (CORPORA[0] / "train-a.jsonl").read_text("utf-8").splitlines()[:8]
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk" / "few.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["--model", str(SHIPPED), "--against", str(SHIPPED), "--on", str(tmp_path / "talk")]
    assert main([*words, "--data", str(tmp_path), "--out", str(tmp_path / "report"), "--mlflow", "none"]) == 0
    written = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert {one["difference"]["value"] for one in written["figures"]} <= {0.0, None}
    assert written["risen"] == written["fallen"] == []
    learnt = 8 - count_held_out(read_material(tmp_path / "talk"))
    assert f"It has learnt from {learnt} of these 8 conversations" in written["model"]["learnt"]
    assert "average precision, any concern" in capsys.readouterr().out


def test_conversations_that_nobody_can_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(WriteCareError, match="not the corpus's format"):
        read_material(tmp_path)


def test_unknown_conversations_are_not_taken_for_learnt() -> None:
    assert count_in_training_data(small().material) == 0
    assert count_in_training_data(load_corpus()[0].chosen(range(3))) == 3


# --- the MLflow run --------------------------------------------------------------------------------------------------


def test_a_run_holds_the_figures_and_the_files(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# x")
    figures = {"command": "c", "version": "0.0.1", "safeguarding": {"ap": {"value": 0.5, "low": 0.4, "high": None}}}
    uri = default_store(tmp_path)
    run = log_run(uri, tmp_path, "0.0.1", figures, tmp_path / "report")
    client = MlflowClient(tracking_uri=uri)
    assert client.get_run(run).data.metrics == {"safeguarding.ap": 0.5, "safeguarding.ap.low": 0.4}
    assert [file.path for file in client.list_artifacts(run)] == ["report.md"]
    kept_at = client.get_experiment_by_name(EXPERIMENT).artifact_location
    assert kept_at.startswith(tmp_path.resolve().as_uri())


def test_while_the_system_runs_its_own_database_keeps_the_run(data_dir: Path, databases: Databases) -> None:
    place = parse_qs(urlsplit(databases.administrator).query)["host"][0]
    running = data_dir / "run.json"
    running.write_text(json.dumps({"postgres_socket_dir": place}))
    try:
        assert default_store(data_dir) == databases.mlflow
        (data_dir / "report").mkdir()
        run = log_run(databases.mlflow, data_dir, "0.0.1", {"command": "c"}, data_dir / "report")
        assert mlflow_client(databases.mlflow).get_run(run).info.status == "FINISHED"
        running.write_text(json.dumps({"postgres_socket_dir": f"{place}-gone"}))  # as after a crash: the file is left
        assert default_store(data_dir).startswith("sqlite:///")
    finally:
        running.unlink()


def test_metrics_are_named_by_what_they_are_of() -> None:
    figure = {"value": 1.0, "low": None, "high": None}
    found = metrics({"categories": [{"category": "neglect", "recall": figure}], "words": "x"})
    assert found == {"categories.neglect.recall": 1.0}


def test_a_store_on_another_machine_is_refused() -> None:
    with pytest.raises(WriteCareError, match="on this machine"):
        require_local_store("https://elsewhere.test/mlflow")
    assert require_local_store("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


# --- swaps and deletions ---------------------------------------------------------------------------------------------


def test_he_becomes_she_throughout_and_back() -> None:
    change = perturbations(("Rosa",))["he and she"]
    talk = conversation("He hit her and took her purse.", "His mum saw him.")
    assert [turn.text for turn in change(talk).turns] == ["She hit him and took his purse.", "Her dad saw her."]
    assert change(talk).participants == talk.participants


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("A lady in 4 fell.", "Irish", "An Irish lady in 4 fell."),
        ("an old man and the carer", "Welsh", "an old Welsh man and the Welsh carer"),
        ("Nobody was there.", "Sikh", "Nobody was there."),
    ],
)
def test_a_description_is_put_before_the_person(text: str, word: str, expected: str) -> None:
    assert insert_description(text, word) == expected


def test_deleting_evidence_tells_more_than_deleting_random_words() -> None:
    known = load_corpus()[0]
    talks = [item.conversation for item in held_out_predictions(known).material.items[:40]]
    found = faithfulness(text_models().safeguarding, talks)
    assert found is not None
    assert found["turns"] >= 3
    assert found["fall_without_evidence"]["value"] > found["fall_without_random_words"]["value"]


NAMES_A_LADY = "tr-a-0011"


def test_swaps_and_deletions_are_measured_and_stand_on_the_page() -> None:
    material, parts = load_corpus()[0], list[str]()
    items = [item for item in material.items if item.conversation.id in ("tr-a-0001", NAMES_A_LADY)]
    found = probe(text_models().safeguarding, items, corpus_names(items), parts.append)
    assert len(parts) == PERTURBATION_COUNT + len(DESCRIPTIONS) + 1
    by_change = {one["change"]: one for one in found["changes"]}
    turns = sum(len(item.conversation.turns) for item in items)
    assert by_change["roles unknown"]["turns_changed"] == turns
    assert 0 < by_change["he and she"]["turns_changed"] < turns
    for one in found["descriptions"]:
        assert one["lowest"]["shift"]["value"] <= 0 <= one["highest"]["shift"]["value"]
    text = page(report_figures(small()) | {"others": {}, "made": "", "command": "", "probe": {"asked": "", **found}})
    assert "## Swaps" in text
    assert re.search(r"\| he and she \| \d", text)


def test_names_are_swapped_without_touching_what_else_is_said() -> None:
    talk = replace_names("Rosa fell.")
    assert re.fullmatch(r"(Rosa|Wei|Fatima) fell\.", talk)


def replace_names(text: str) -> str:
    change = perturbations(("Rosa", "Wei", "Fatima"))["first names"]
    return change(conversation(text)).turns[0].text
