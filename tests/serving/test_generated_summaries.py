"""A generated summary is shown only if the turns support it; otherwise the extractive summary is shown."""

import json
from typing import Any

import numpy as np
import pytest

from comms.kernel.settings import Settings
from models.artefacts.files import Manifest
from models.contract.errors import WriteCareError
from models.contract.records import TurnAssessment
from models.text.generated_summaries import SummaryWithSource, WrittenSummaries
from models.text.summarisation import FEATURES, SummarisationModel, WordImportance
from serving.chat_completions import ChatCompletions
from serving.placement import ReplicaSettings
from tests.serving.chat_server import chat_server
from tests.text_models import conversation

TALK = conversation("Rosa fell at 6 and her hip is sore.", "I'll ring the GP at nine.")
CALM = [TurnAssessment(scores={"any": 0.1}, concerns=()) for _ in TALK.turns]
QUOTING = SummarisationModel(
    WordImportance({}, {}, np.zeros(len(FEATURES) + 1, dtype=np.float32)), Manifest("summarisation", "1", "", {})
)


def _written(*sentences: tuple[str, list[int]]) -> str:
    return json.dumps({"sentences": [{"text": text, "turns": turns} for text, turns in sentences]})


def _tell(url: str) -> SummaryWithSource:
    return WrittenSummaries(ChatCompletions(url, "local", "secret", seconds=5.0), QUOTING).summarise_with_source(
        TALK, CALM
    )


def test_what_the_turns_bear_out_is_shown_with_who_wrote_it() -> None:
    good = _written(
        ("The care worker Ioana said Rosa fell at six and her hip is sore.", [0]), ("Beverley will ring the GP.", [1])
    )
    with chat_server(f"```json\n{good}\n```") as (url, asked):
        told = _tell(url)
    assert told.reason is None
    assert told.version == "local@chat-completions"
    assert [sentence.turns for sentence in told.summary.sentences] == [(0,), (1,)]
    [request] = asked
    assert (request["path"], request["model"], request["key"]) == ("/v1/chat/completions", "local", "Bearer secret")
    assert request["messages"][1]["content"].startswith("[0] Ioana (care_worker): Rosa fell")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_written(("Peter fell.", [0])), "unsupported"),
        (_written(("Rosa fell at 7.", [0])), "unsupported"),
        (_written(("Rosa fell three times.", [0])), "unsupported"),
        (_written(("Rosa fell.", [1])), "unsupported"),
        (_written(("Rosa fell.", [2])), "citation"),
        (_written(("Rosa fell.", [])), "citation"),
        (_written(("Rosa fell " + "and " * 60, [0])), "too-long"),
        (_written(*[("Rosa fell.", [0])] * 4), "shape"),
        ('{"sentences": ["Rosa fell."]}', "shape"),
        ("Rosa fell.", "not-json"),
        (None, "writer-failed"),
    ],
)
def test_what_they_do_not_is_not_shown_and_the_reason_is_told(content: Any, reason: str) -> None:
    with chat_server(content) as (url, _):
        told = _tell(url)
    assert (told.reason, told.version) == (reason, "summarisation@1")
    assert told.summary == QUOTING.summarise(TALK, CALM)


def test_a_server_that_fails_or_is_not_there_costs_no_summary() -> None:
    with chat_server("", status=500) as (url, _):
        assert _tell(url).reason == "writer-failed"
    assert _tell(url).reason == "writer-unreachable"
    with pytest.raises(WriteCareError):
        ChatCompletions("no address", "local").complete("", "")


def test_no_address_is_known_unless_a_setting_names_it() -> None:
    assert ReplicaSettings.of(Settings()).writer is None
    named = Settings(summary_url="http://10.0.0.5:8000/v1", summary_model="local")
    assert ReplicaSettings.of(named).writer == ChatCompletions("http://10.0.0.5:8000/v1", "local")
    assert "secret" not in repr(ChatCompletions("http://10.0.0.5/v1", "local", "secret"))
