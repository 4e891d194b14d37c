"""Assesses messages for safeguarding, in batches, if the senders consent. The worker calls it.

A batch is claimed, given to the models with the turns around each message, and stored in one transaction with its
alerts. Consent is checked before the models get any text, and again, with a lock, when the assessment is stored. If a
worker is killed, its claimed messages become due again (docs/decisions/0020). Evidence spans are found later
(`pipelines/message_explanation.py`, docs/decisions/0025).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from comms.governance.consent.permissions import permissions
from comms.kernel.database import Actor, Connection
from comms.safeguarding.alerts.records import NewMessageEvidence
from comms.safeguarding.message_assessments.queries import load_turns, save_assessments
from comms.safeguarding.message_assessments.queue import lease_due_messages, postpone, release_permitted
from comms.safeguarding.message_assessments.records import DueMessage, MessageAssessment, MessageTurn
from comms.web.context import AppContext
from models.contract.errors import WriteCareError
from models.contract.records import AnalysedTurn, Conversation, Participant, Turn
from models.text.language_detection import unsupported_languages
from pipelines.alerting import SAFEGUARDING
from pipelines.model_protocols import Models
from pipelines.recording_processing import WORKER

DueItem = TypeVar("DueItem", bound=DueMessage)

_BATCHES: Final = 8  # of one job; then other tenants' jobs run
# after so many failures an item is processed in a batch of its own: it may be the cause of the failure
_MOST_TRIES_IN_BATCH: Final = 2
_CONVERSATION_ROLES: Final = {
    "care_manager": "manager", "care_worker": "care_worker", "resident": "resident", "external": "family",
}  # fmt: skip


@dataclass(frozen=True)
class _Batch:
    """Messages that are assessed together, and the turns of their conversations; withheld turns are empty already."""

    due: tuple[DueMessage, ...]
    turns: tuple[MessageTurn, ...]

    def conversations(self) -> list[tuple[MessageTurn, ...]]:
        """The turns, one tuple per conversation, in the order of writing."""
        found: dict[UUID, list[MessageTurn]] = {}
        for turn in self.turns:
            found.setdefault(turn.conversation_id, []).append(turn)
        return [tuple(turns) for turns in found.values()]


async def assess_messages(ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> bool:
    """Assesses due messages of the tenant, up to the limit of one job. Returns True if more may be due.

    `models` returns a new view of the models for each batch. An error of the models is raised after all other batches
    were assessed.
    """
    actor = Actor(tenant_id, WORKER, "service")
    async with ctx.database.acting_as(actor) as conn:
        await release_permitted(conn)
    for _ in range(_BATCHES):
        async with ctx.database.acting_as(actor) as conn:
            due = await _withhold_unpermitted(conn, await lease_due_messages(conn))
        if due is None:
            return False
        failures = [
            failure
            for batch_items in split_retried(due)
            if (failure := await captured_error(_assess_batch(ctx, models(), actor, batch_items))) is not None
        ]
        if failures:  # of some batches; the others were assessed all the same
            raise failures[0]
    return True


async def captured_error(work: Awaitable[None]) -> WriteCareError | None:
    """Awaits `work` and returns the error it raised, if any, so that the caller can continue with other work."""
    try:
        await work
    except WriteCareError as error:
        return error
    return None


async def _withhold_unpermitted(conn: Connection, claimed: Sequence[DueMessage]) -> list[DueMessage] | None:
    """The claimed messages that may be assessed; the others are postponed. None if nothing was claimed."""
    if not claimed:
        return None
    senders = sorted({one.sender_id for one in claimed})
    reasons = {
        answer.user_id: answer.reason for answer in await permissions(conn, senders, "analyse") if not answer.permitted
    }
    without_consent = [one for one in claimed if one.sender_id in reasons]
    if without_consent:
        await postpone(conn, without_consent, reasons)
    return [one for one in claimed if one.sender_id not in reasons]


def split_retried(due: Sequence[DueItem]) -> list[list[DueItem]]:
    """Splits due items into batches: all together, except those that failed before: they come last, one per batch."""
    rarely_tried = [one for one in due if one.tries <= _MOST_TRIES_IN_BATCH]
    return ([rarely_tried] if rarely_tried else []) + [[one] for one in due if one.tries > _MOST_TRIES_IN_BATCH]


async def _assess_batch(ctx: AppContext, models: Models, actor: Actor, due: Sequence[DueMessage]) -> None:
    async with ctx.database.acting_as(actor) as conn:
        batch = _Batch(tuple(due), await load_permitted_turns(conn, due))
    readings = await _run_models(models, batch)
    async with ctx.database.acting_as(actor) as conn:
        await save_assessments(conn, actor, batch.due, readings, batch.turns)


async def load_permitted_turns(conn: Connection, due: Sequence[DueMessage]) -> tuple[MessageTurn, ...]:
    """The due messages with the turns around them. Turns whose sender does not permit analysis are empty."""
    turns = await load_turns(conn, due)
    around = sorted({turn.sender_id for turn in turns if not turn.due and turn.sender_id is not None})
    without_consent = {answer.user_id for answer in await permissions(conn, around, "analyse") if not answer.permitted}
    return tuple(
        turn.model_copy(update={"text": "", "again": False}) if turn.sender_id in without_consent else turn
        for turn in turns
    )


async def _run_models(models: Models, batch: _Batch) -> list[MessageAssessment]:
    conversations = batch.conversations()
    if not conversations:  # retention deleted them
        return []
    with_text = [turn for turns in conversations for turn in turns if turn.due and turn.current and turn.text.strip()]
    scored, vectors = await asyncio.gather(
        models.score([to_conversation(turns) for turns in conversations]), _embed_messages(models, with_text)
    )
    versions = dict(models.versions)
    languages = await asyncio.to_thread(
        lambda: [unsupported_languages(to_conversation(turns)) for turns in conversations]
    )
    return [
        _message_assessment(
            turns, at, answers[at], versions, vectors.get((turn.message_id, turn.version)), unread=unread.get(at)
        )
        for turns, answers, unread in zip(conversations, scored, languages, strict=True)
        for at, turn in enumerate(turns)
        if turn.due or turn.again
    ]


async def _embed_messages(
    models: Models, with_text: Sequence[MessageTurn]
) -> dict[tuple[UUID, int], tuple[float, ...]]:
    """The embedding of each message. A message that is only a file has none."""
    if not with_text:
        return {}
    rows = await models.embed([turn.text for turn in with_text])
    return {(turn.message_id, turn.version): tuple(row.tolist()) for turn, row in zip(with_text, rows, strict=True)}


def _message_assessment(
    turns: Sequence[MessageTurn],
    at: int,
    answer: AnalysedTurn,
    versions: dict[str, str],
    vector: tuple[float, ...] | None,
    *,
    unread: str | None,
) -> MessageAssessment:
    turn = turns[at]
    return MessageAssessment(
        conversation_id=turn.conversation_id, message_id=turn.message_id, version=turn.version, again=turn.again,
        turns_before=sum(bool(other.text) for other in turns[:at]),
        turns_after=sum(bool(other.text) for other in turns[at + 1 :]),
        probability=answer.scores["any"], sentiment=answer.sentiment.label, models=versions, vector=vector,
        unread_language=unread,
        concerns=tuple(
            NewMessageEvidence(
                message_id=turn.message_id, version=turn.version, category=concern.category,
                severity=concern.severity, probability=concern.probability, threshold=concern.threshold,
                model=SAFEGUARDING, model_version=versions[SAFEGUARDING],
            )
            for concern in answer.concerns
        ),
    )  # fmt: skip


def to_conversation(turns: Sequence[MessageTurn]) -> Conversation:
    """The conversation in the form that the models take: it names people only by their role."""
    people = {
        str(turn.sender_id): _CONVERSATION_ROLES.get(turn.role or "", "other") for turn in turns if turn.sender_id
    }
    return Conversation(
        id=str(turns[0].conversation_id),
        channel="chat",
        participants=tuple(Participant(speaker=speaker, role=role) for speaker, role in people.items()),
        turns=tuple(Turn(speaker=str(turn.sender_id) if turn.sender_id else None, text=turn.text) for turn in turns),
    )
