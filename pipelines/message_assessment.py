"""Messages read for safeguarding as calls are, as the worker calls it: batch after batch, under consent.

A batch is taken, shown to the models with the turns around each message, and kept in one transaction with the alerts
that it calls for. Consent is asked before the models see a word and again, locked, where the reading is kept. A
worker killed anywhere leaves what it took to come due again (docs/decisions/0020). Which words moved the model is
found later (`pipelines/message_explanation.py`, docs/decisions/0025).
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

_BATCHES: Final = 8  # of a job: then it is another tenant's turn
_MOST_TRIES_IN_BATCH: Final = 2  # what failed so often is read alone: it may be what the others' reading failed of
_CONVERSATION_ROLES: Final = {
    "care_manager": "manager", "care_worker": "care_worker", "resident": "resident", "external": "family",
}  # fmt: skip


@dataclass(frozen=True)
class _Batch:
    """What is read together: the messages, and their conversations' turns, those withheld already left empty."""

    due: tuple[DueMessage, ...]
    turns: tuple[MessageTurn, ...]

    def conversations(self) -> list[tuple[MessageTurn, ...]]:
        """The turns, a conversation each, in the order of writing."""
        found: dict[UUID, list[MessageTurn]] = {}
        for turn in self.turns:
            found.setdefault(turn.conversation_id, []).append(turn)
        return [tuple(turns) for turns in found.values()]


async def assess_messages(ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> bool:
    """Reads what is due in the tenant, as much as fits in a job; returns whether more may be.

    `models` gives a fresh view of the models for each batch. Raises what they raised, having read what it could.
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
        if failures:  # of some: the others were read all the same
            raise failures[0]
    return True


async def captured_error(work: Awaitable[None]) -> WriteCareError | None:
    """What it raised, if it did: others' work goes on."""
    try:
        await work
    except WriteCareError as error:
        return error
    return None


async def _withhold_unpermitted(conn: Connection, claimed: Sequence[DueMessage]) -> list[DueMessage] | None:
    """Of what was taken that which may be read; the rest is put off. None where nothing was taken."""
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
    """What is to be worked on together: all, but for what failed before, which comes last and each by itself."""
    rarely_tried = [one for one in due if one.tries <= _MOST_TRIES_IN_BATCH]
    return ([rarely_tried] if rarely_tried else []) + [[one] for one in due if one.tries > _MOST_TRIES_IN_BATCH]


async def _assess_batch(ctx: AppContext, models: Models, actor: Actor, due: Sequence[DueMessage]) -> None:
    async with ctx.database.acting_as(actor) as conn:
        batch = _Batch(tuple(due), await load_permitted_turns(conn, due))
    readings = await _run_models(models, batch)
    async with ctx.database.acting_as(actor) as conn:
        await save_assessments(conn, actor, batch.due, readings, batch.turns)


async def load_permitted_turns(conn: Connection, due: Sequence[DueMessage]) -> tuple[MessageTurn, ...]:
    """What is due with the turns around it; words that their sender does not permit to be analysed stand empty."""
    turns = await load_turns(conn, due)
    around = sorted({turn.sender_id for turn in turns if not turn.due and turn.sender_id is not None})
    without_consent = {answer.user_id for answer in await permissions(conn, around, "analyse") if not answer.permitted}
    return tuple(
        turn.model_copy(update={"text": "", "again": False}) if turn.sender_id in without_consent else turn
        for turn in turns
    )


async def _run_models(models: Models, batch: _Batch) -> list[MessageAssessment]:
    conversations = batch.conversations()
    if not conversations:  # retention took them
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
    """Where the meaning of each message lies; what is a file alone has none."""
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
    """As the models read a conversation: who somebody is, they know by role alone."""
    people = {
        str(turn.sender_id): _CONVERSATION_ROLES.get(turn.role or "", "other") for turn in turns if turn.sender_id
    }
    return Conversation(
        id=str(turns[0].conversation_id),
        channel="chat",
        participants=tuple(Participant(speaker=speaker, role=role) for speaker, role in people.items()),
        turns=tuple(Turn(speaker=str(turn.sender_id) if turn.sender_id else None, text=turn.text) for turn in turns),
    )
