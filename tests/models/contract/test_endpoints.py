"""Bodies of the model endpoints: accepted, ignored and refused fields."""

import json
import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from models.contract.endpoints import (
    ENDPOINTS,
    MOST_ITEMS,
    Batch,
    BatchResults,
    ConversationRequest,
    ItemError,
    LawfulBasisRef,
    Problem,
    is_batch,
    submitted_items,
)
from models.contract.records import Analysis, Conversation, Participant, Turn

GROUND = {"processing_id": str(uuid.uuid4())}


def line(**more: Any) -> dict[str, Any]:
    """A line of the corpus with its labels, as a caller may send it."""
    return {
        "id": "tr-a-0001", "channel": "call", "asr_style": True, "risk": "none",
        "participants": [{"speaker": "S1", "role": "nurse", "name": "Ann", "shift": "night"}],
        "turns": [{"speaker": "S1", "text": "All quiet.", "concerns": [], "sentiment": "neutral"}],
        **more,
    }  # fmt: skip


def test_a_conversation_is_taken_with_its_ground_and_what_no_model_reads_is_dropped() -> None:
    request = ConversationRequest.model_validate(line(**GROUND))
    assert str(request.processing_id) == GROUND["processing_id"]
    assert request.conversation() == Conversation(
        id="tr-a-0001", channel="call",
        participants=(Participant(speaker="S1", role="nurse", name="Ann"),),
        turns=(Turn(speaker="S1", text="All quiet."),),
    )  # fmt: skip


@pytest.mark.parametrize("named", [{}, {**GROUND, "recording_id": str(uuid.uuid4())}, {"processing_id": "x"}])
def test_a_call_names_exactly_one_ground(named: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ConversationRequest.model_validate(line(**named))
    with pytest.raises(ValidationError):
        LawfulBasisRef.model_validate(named)


def test_what_is_wrong_is_said_without_the_words_that_were_sent() -> None:
    for wrong in ({"turns": [{"speaker": "S1", "text": ["she was hit"]}]}, {"id": ["she was hit"]}):
        with pytest.raises(ValidationError) as refusal:
            ConversationRequest.model_validate(line(**GROUND, **wrong))
        assert "hit" not in str(refusal.value)
    assert "quiet" not in repr(ConversationRequest.model_validate(line(**GROUND)))


def test_a_batch_shares_its_ground_with_items_that_name_none() -> None:
    own = {"recording_id": str(uuid.uuid4())}
    body = {**GROUND, "items": [line(), line(**own), "not an object"]}
    assert is_batch(body)
    assert not is_batch(line())
    items = submitted_items(body)
    assert [ConversationRequest.model_validate(item).processing_id for item in items[:1]] == [
        uuid.UUID(GROUND["processing_id"])
    ]
    second = ConversationRequest.model_validate(items[1])
    assert (str(second.recording_id), second.processing_id) == (own["recording_id"], None)
    assert items[2] == "not an object"


@pytest.mark.parametrize("items", [[], {}, "x", None, [{}] * (MOST_ITEMS + 1)])
def test_a_batch_has_some_items_and_not_too_many(items: Any) -> None:
    with pytest.raises(ValueError, match="items must be a list"):
        submitted_items({"items": items})


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.call)
def test_every_calls_shapes_can_be_described_single_and_in_batch(endpoint: Any) -> None:
    for shape in (endpoint.request, endpoint.response, Batch[endpoint.request], BatchResults[endpoint.response]):
        assert json.dumps(shape.model_json_schema())


def test_an_items_error_stands_in_its_place_as_a_problem() -> None:
    problem = Problem(type="https://writecarenotes.com/problems/x", title="X", status=422, detail="Say what to do.")
    shown = BatchResults[Analysis](results=(ItemError(error=problem),)).model_dump()
    assert shown == {"results": ({"error": problem.model_dump()},)}
