"""A deeper reader is asked about unsure turns alone, and what it says counts only where the turn says it too."""

import json
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from comms.kernel.settings import Settings
from models.contract.records import (
    CATEGORIES,
    SEVERITIES,
    Concern,
    Conversation,
    Participant,
    Turn,
    TurnAssessment,
    Unsure,
)
from models.text.deeper_reading import Deepened, DeeperReader, where_said
from serving.chat_completions import ChatCompletions
from serving.deployments import SafeguardingDeployment
from serving.placement import ReplicaSettings
from serving.replica_results import ReplicaResult
from tests.serving.chat_server import chat_server

LINES = (
    "Morning.", "How was he?", "He doesn’t get his  pudding until he says sorry to her.", "Right.", "Bye.", "Ta-ra.",
)  # fmt: skip
TALK = Conversation(
    id="c",
    participants=(Participant(speaker="S1", role="care_worker", name="Ioana"),),
    turns=tuple(Turn(speaker="S1", text=line) for line in LINES),
)


def assessed(*unsure: int, flagged: int | None = None) -> list[TurnAssessment]:
    """One a line; those named are unsure, one may have a concern."""
    raised = Concern(category="neglect", severity="low", probability=0.5, threshold=0.2)
    return [
        TurnAssessment(
            scores={"any": 0.06},
            concerns=(raised,) if at == flagged else (),
            unsure=Unsure(probability=0.06, threshold=0.04) if at in unsure else None,
        )
        for at in range(len(LINES))
    ]


def raising(evidence: str, category: str = "psychological_abuse", severity: str = "medium") -> str:
    return json.dumps({"concerns": [{"category": category, "severity": severity, "evidence": evidence}]})


def read(url: str, rows: list[TurnAssessment], seconds: float = 5.0) -> Deepened:
    return DeeperReader(ChatCompletions(url, "local", "secret", seconds)).read(TALK, rows)


def test_what_the_turn_says_is_raised_with_who_raised_it_and_no_probability_of_its_own() -> None:
    answer = raising("doesn't get his pudding")
    with chat_server(f"```json\n{answer}\n```") as (url, asked):
        found = read(url, assessed(2, flagged=1))
    [concern] = found.assessments[2].concerns
    assert (concern.category, concern.severity, concern.model) == (
        "psychological_abuse",
        "medium",
        "local@chat-completions",
    )
    assert (concern.probability, concern.threshold) == (0.06, 0.04)
    assert [piece.text for piece in concern.evidence] == ["doesn’t get his  pudding"]
    assert found.assessments[2].unsure is None
    assert found.assessments[:2] == tuple(assessed(2, flagged=1)[:2])
    assert (found.asked, found.failed) == (1, {})
    [request] = asked
    assert (request["path"], request["key"]) == ("/v1/chat/completions", "Bearer secret")
    schema = request["response_format"]["json_schema"]["schema"]["properties"]["concerns"]["items"]["properties"]
    assert schema["category"]["enum"] == list(CATEGORIES)
    assert schema["severity"]["enum"] == list(SEVERITIES)


def test_two_turns_before_and_after_are_shown_and_no_more() -> None:
    with chat_server('{"concerns": []}') as (url, asked):
        found = read(url, assessed(2, 5))
    told = [request["messages"][1]["content"] for request in asked]
    assert ["Morning." in told[0], "Bye." in told[0], "Ta-ra." in told[0]] == [True, True, False]
    assert told[0].endswith("Judge turn [2] alone.")
    assert told[1].splitlines()[0].startswith("[0] Ioana (care_worker): Right.")
    assert found.assessments == tuple(assessed(2, 5))
    assert found.asked == 2


def test_where_nothing_is_unsure_nobody_is_asked() -> None:
    with chat_server(raising("pudding")) as (url, asked):
        found = read(url, assessed(flagged=2))
    assert asked == []
    assert (found.assessments, found.asked) == (tuple(assessed(flagged=2)), 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (raising("he gets no dinner"), "evidence"),
        (raising("How was he?"), "evidence"),
        (raising("he"), "evidence"),
        (raising("pud"), "evidence"),
        (raising("pudding", category="unkindness"), "shape"),
        (raising("pudding", severity="grave"), "shape"),
        ('{"concerns": [{"category": "neglect"}]}', "shape"),
        ('{"concerns": {}}', "shape"),
        (json.dumps({"concerns": json.loads(raising("pudding"))["concerns"] * 2}), "shape"),
        ("It may be neglect.", "not-json"),
        (None, "writer-failed"),
    ],
)
def test_what_cannot_be_used_leaves_the_first_reading_and_tells_a_code(content: Any, reason: str) -> None:
    with chat_server(content) as (url, _):
        found = read(url, assessed(2))
    assert found.assessments == tuple(assessed(2))
    assert found.failed == {reason: 1}


def test_one_bad_answer_costs_no_other_turn_its_second_look() -> None:
    with chat_server(["nothing", raising("Right.")]) as (url, asked):
        found = read(url, assessed(2, 3))
    assert len(asked) == 2
    assert [bool(row.concerns) for row in found.assessments] == [False, False, False, True, False, False]
    assert found.failed == {"not-json": 1}


def test_a_server_that_fails_or_is_silent_is_asked_once_and_the_first_reading_stands() -> None:
    with chat_server("", status=500) as (url, asked):
        found = read(url, assessed(2, 3))
    assert (found.assessments, found.failed, len(asked)) == (tuple(assessed(2, 3)), {"writer-failed": 1}, 1)
    silence = threading.Event()
    with chat_server(raising("pudding"), delay=silence) as (url, _):
        found = read(url, assessed(2, 3), seconds=0.2)
        silence.set()
    assert (found.assessments, found.failed) == (tuple(assessed(2, 3)), {"writer-unreachable": 1})


def test_the_rules_of_severity_hold_for_it_too() -> None:
    said = "He hits her when he wants his pudding."
    talk = TALK.model_copy(update={"turns": (Turn(speaker="S1", text=said),)})
    with chat_server(raising("hits her", "physical_abuse", "low")) as (url, _):
        found = DeeperReader(ChatCompletions(url, "local")).read(talk, assessed(0)[:1])
    assert found.assessments[0].concerns[0].severity == "high"


def test_evidence_is_whole_words_of_the_turn() -> None:
    assert where_said("his pudding", LINES[2]) == (15, 27)
    assert where_said("is pudding", LINES[2]) is None
    assert where_said("Bye.", "Bye.") == (0, 4)
    assert where_said("Ta", "Ta") == (0, 2)


async def deepened(url: str | None) -> tuple[ReplicaResult[tuple[TurnAssessment, ...]], list[Any]]:
    """The deployment's answer for one unsure turn, and what it logs."""
    replica_settings = ReplicaSettings.of(Settings(deeper_reader_url=url, deeper_reader_model="local"))
    served: Any = SafeguardingDeployment  # Ray's decorator makes a deployment of the class
    deployment = served.func_or_class(replica_settings)
    with capture_logs() as logged:
        answer = await deployment.deepen(TALK, assessed(2))
    return answer, list(logged)


@pytest.mark.anyio
async def test_the_deployment_names_who_answered_and_logs_codes_without_words() -> None:
    with chat_server(raising("his pudding")) as (url, _):
        answer, logged = await deepened(url)
    assert (dict(answer.versions), logged) == ({"deeper_reader": "local@chat-completions"}, [])
    assert answer.unwrap()[2].concerns[0].category == "psychological_abuse"

    with chat_server(raising("his dinner")) as (url, _):
        answer, logged = await deepened(url)
    assert (answer.unwrap(), dict(answer.versions)) == (tuple(assessed(2)), {})
    assert [(line["conversation"], line["failed"]) for line in logged] == [("c", {"evidence": 1})]
    assert "pudding" not in repr(logged)
    assert "dinner" not in repr(logged)

    answer, logged = await deepened(None)
    assert (answer.unwrap(), dict(answer.versions), logged) == (tuple(assessed(2)), {}, [])


def test_no_address_is_known_unless_a_setting_names_it() -> None:
    assert ReplicaSettings.of(Settings()).deeper is None
    named = Settings(deeper_reader_url="http://10.0.0.5:8000/v1", deeper_reader_model="m", deeper_reader_seconds=9.0)
    assert ReplicaSettings.of(named).deeper == ChatCompletions("http://10.0.0.5:8000/v1", "m", None, 9.0)
    assert ReplicaSettings.of(named).writer is None
