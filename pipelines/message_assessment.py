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
from comms.safeguarding.message_assessments.queries import keep_readings, load_turns
from comms.safeguarding.message_assessments.queue import release_permitted, take_due, withhold
from comms.safeguarding.message_assessments.records import DueMessage, MessageReading, MessageTurn
from comms.web.context import House
from models.contract.errors import WriteCareError
from models.contract.records import AnalysedTurn, Conversation, Participant, Turn
from models.text.language_detection import unread_languages
from pipelines.alerting import SAFEGUARDING
from pipelines.model_protocols import Models
from pipelines.recording_processing import WORKER

Due = TypeVar("Due", bound=DueMessage)

_BATCHES: Final = 8  # of a job: then it is another tenant's turn
_TRIES_TOGETHER: Final = 2  # what failed so often is read alone: it may be what the others' reading failed of
_ROLE_IN_TALK: Final = {
    "care_manager": "manager", "care_worker": "care_worker", "resident": "resident", "external": "family",
}  # fmt: skip


@dataclass(frozen=True)
class _Batch:
    """What is read together: the messages, and their conversations' turns, those withheld already left empty."""

    due: tuple[DueMessage, ...]
    turns: tuple[MessageTurn, ...]

    def talks(self) -> list[tuple[MessageTurn, ...]]:
        """The turns, a conversation each, in the order of writing."""
        found: dict[UUID, list[MessageTurn]] = {}
        for turn in self.turns:
            found.setdefault(turn.conversation_id, []).append(turn)
        return [tuple(turns) for turns in found.values()]


async def read_messages(house: House, models: Callable[[], Models], tenant_id: UUID) -> bool:
    """Reads what is due in the tenant, as much as fits in a job; returns whether more may be.

    `models` gives a fresh view of the models for each batch. Raises what they raised, having read what it could.
    """
    actor = Actor(tenant_id, WORKER, "service")
    async with house.database.acting_as(actor) as conn:
        await release_permitted(conn)
    for _ in range(_BATCHES):
        async with house.database.acting_as(actor) as conn:
            due = await _permitted(conn, await take_due(conn))
        if due is None:
            return False
        failures = [
            failure
            for together in apart(due)
            if (failure := await failure_of(_read(house, models(), actor, together))) is not None
        ]
        if failures:  # of some: the others were read all the same
            raise failures[0]
    return True


async def failure_of(work: Awaitable[None]) -> WriteCareError | None:
    """What it raised, if it did: others' work goes on."""
    try:
        await work
    except WriteCareError as error:
        return error
    return None


async def _permitted(conn: Connection, taken: Sequence[DueMessage]) -> list[DueMessage] | None:
    """Of what was taken that which may be read; the rest is put off. None where nothing was taken."""
    if not taken:
        return None
    senders = sorted({one.sender_id for one in taken})
    reasons = {
        answer.user_id: answer.reason for answer in await permissions(conn, senders, "analyse") if not answer.permitted
    }
    barred = [one for one in taken if one.sender_id in reasons]
    if barred:
        await withhold(conn, barred, reasons)
    return [one for one in taken if one.sender_id not in reasons]


def apart(due: Sequence[Due]) -> list[list[Due]]:
    """What is to be worked on together: all, but for what failed before, which comes last and each by itself."""
    calm = [one for one in due if one.tries <= _TRIES_TOGETHER]
    return ([calm] if calm else []) + [[one] for one in due if one.tries > _TRIES_TOGETHER]


async def _read(house: House, models: Models, actor: Actor, due: Sequence[DueMessage]) -> None:
    async with house.database.acting_as(actor) as conn:
        batch = _Batch(tuple(due), await load_permitted(conn, due))
    readings = await _ask(models, batch)
    async with house.database.acting_as(actor) as conn:
        await keep_readings(conn, actor, batch.due, readings, batch.turns)


async def load_permitted(conn: Connection, due: Sequence[DueMessage]) -> tuple[MessageTurn, ...]:
    """What is due with the turns around it; words that their sender does not permit to be analysed stand empty."""
    turns = await load_turns(conn, due)
    around = sorted({turn.sender_id for turn in turns if not turn.due and turn.sender_id is not None})
    barred = {answer.user_id for answer in await permissions(conn, around, "analyse") if not answer.permitted}
    return tuple(
        turn.model_copy(update={"text": "", "again": False}) if turn.sender_id in barred else turn for turn in turns
    )


async def _ask(models: Models, batch: _Batch) -> list[MessageReading]:
    talks = batch.talks()
    if not talks:  # retention took them
        return []
    worded = [turn for turns in talks for turn in turns if turn.due and turn.current and turn.text.strip()]
    judged, vectors = await asyncio.gather(
        models.judge([conversation_of(turns) for turns in talks]), _vectors(models, worded)
    )
    versions = dict(models.versions)
    languages = await asyncio.to_thread(lambda: [unread_languages(conversation_of(turns)) for turns in talks])
    return [
        _reading(turns, at, answers[at], versions, vectors.get((turn.message_id, turn.version)), unread=unread.get(at))
        for turns, answers, unread in zip(talks, judged, languages, strict=True)
        for at, turn in enumerate(turns)
        if turn.due or turn.again
    ]


async def _vectors(models: Models, worded: Sequence[MessageTurn]) -> dict[tuple[UUID, int], tuple[float, ...]]:
    """Where the meaning of each message lies; what is a file alone has none."""
    if not worded:
        return {}
    rows = await models.embed([turn.text for turn in worded])
    return {(turn.message_id, turn.version): tuple(row.tolist()) for turn, row in zip(worded, rows, strict=True)}


def _reading(
    turns: Sequence[MessageTurn],
    at: int,
    answer: AnalysedTurn,
    versions: dict[str, str],
    vector: tuple[float, ...] | None,
    *,
    unread: str | None,
) -> MessageReading:
    turn = turns[at]
    return MessageReading(
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


def conversation_of(turns: Sequence[MessageTurn]) -> Conversation:
    """As the models read a conversation: who somebody is, they know by role alone."""
    people = {str(turn.sender_id): _ROLE_IN_TALK.get(turn.role or "", "other") for turn in turns if turn.sender_id}
    return Conversation(
        id=str(turns[0].conversation_id),
        channel="chat",
        participants=tuple(Participant(speaker=speaker, role=role) for speaker, role in people.items()),
        turns=tuple(Turn(speaker=str(turn.sender_id) if turn.sender_id else None, text=turn.text) for turn in turns),
    )
