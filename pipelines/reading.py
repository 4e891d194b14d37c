"""Messages read for safeguarding as calls are, as the worker calls it: batch after batch, under consent.

A batch is taken, shown to the models with the turns before each message, and kept in one transaction with the alerts
that it calls for. Consent is asked before the models see a word and again, locked, where the reading is kept. A
worker killed anywhere leaves what it took to come due again (docs/decisions/0020).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from comms.alerts.records import MessageSpan, NewMessageEvidence
from comms.consent.permission import permissions
from comms.database import Actor, Connection
from comms.house import House
from comms.readings.due import release_permitted, take_due, withhold
from comms.readings.queries import keep_readings, load_turns
from comms.readings.records import DueMessage, MessageReading, MessageTurn
from models.errors import WriteCareError
from models.records import Conversation, Participant, Turn, TurnAssessment
from pipelines.alerting import SAFEGUARDING
from pipelines.capabilities import Models
from pipelines.processing import WORKER

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
            for together in _apart(due)
            if (failure := await _failure_of(_read(house, models(), actor, together))) is not None
        ]
        if failures:  # of some: the others were read all the same
            raise failures[0]
    return True


async def _failure_of(reading: Awaitable[None]) -> WriteCareError | None:
    try:
        await reading
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


def _apart(due: Sequence[DueMessage]) -> list[list[DueMessage]]:
    """What is to be read together: all, but for what failed before, which comes last and each by itself."""
    calm = [one for one in due if one.tries <= _TRIES_TOGETHER]
    return ([calm] if calm else []) + [[one] for one in due if one.tries > _TRIES_TOGETHER]


async def _read(house: House, models: Models, actor: Actor, due: Sequence[DueMessage]) -> None:
    async with house.database.acting_as(actor) as conn:
        batch = await _load(conn, due)
    readings = await _ask(models, batch)
    async with house.database.acting_as(actor) as conn:
        await keep_readings(conn, actor, batch.due, readings, batch.turns)


async def _load(conn: Connection, due: Sequence[DueMessage]) -> _Batch:
    """The turns; words before a message that their sender does not permit to be analysed stand empty in their place."""
    turns = await load_turns(conn, due)
    before = sorted({turn.sender_id for turn in turns if not turn.due and turn.sender_id is not None})
    barred = {answer.user_id for answer in await permissions(conn, before, "analyse") if not answer.permitted}
    shown = tuple(turn.model_copy(update={"text": ""}) if turn.sender_id in barred else turn for turn in turns)
    return _Batch(tuple(due), shown)


async def _ask(models: Models, batch: _Batch) -> list[MessageReading]:
    if not batch.turns:  # retention took them
        return []
    talks = batch.talks()
    read = [tuple(turn for turn in turns if turn.due) for turns in talks]
    assessed, felt, vectors = await asyncio.gather(
        asyncio.gather(*(models.assess(_conversation(turns), _context(turns)) for turns in talks)),
        # the feeling is in the words themselves: turns before would cost as much again and tell little
        asyncio.gather(*(models.sentiment(_conversation(turns)) for turns in read)),
        models.embed([turn.text for turns in read for turn in turns]),
    )
    sentiments = [sentiment for of_talk in felt for sentiment in of_talk]
    assessments = [
        (turns, assessment)
        for turns, of_talk in zip(talks, assessed, strict=True)
        for turn, assessment in zip(turns, of_talk, strict=True)
        if turn.due
    ]
    versions = dict(models.versions)
    return [
        MessageReading(
            conversation_id=turn.conversation_id, message_id=turn.message_id, version=turn.version,
            probability=assessment.scores["any"], sentiment=sentiment.label, models=versions,
            concerns=_evidence(turn, assessment, turns, versions[SAFEGUARDING]),
            vector=tuple(vector.tolist()) if turn.current else None,
        )
        for turn, (turns, assessment), sentiment, vector in zip(
            (turn for turns in read for turn in turns), assessments, sentiments, vectors, strict=True
        )
    ]  # fmt: skip


def _context(turns: Sequence[MessageTurn]) -> int:
    """How many turns come before the first that is to be read."""
    return next((at for at, turn in enumerate(turns) if turn.due), len(turns))


def _conversation(turns: Sequence[MessageTurn]) -> Conversation:
    """As the models read a conversation: who somebody is, they know by role alone."""
    people = {str(turn.sender_id): _ROLE_IN_TALK.get(turn.role or "", "other") for turn in turns if turn.sender_id}
    return Conversation(
        id=str(turns[0].conversation_id),
        channel="chat",
        participants=tuple(Participant(speaker=speaker, role=role) for speaker, role in people.items()),
        turns=tuple(Turn(speaker=str(turn.sender_id) if turn.sender_id else None, text=turn.text) for turn in turns),
    )


def _evidence(
    turn: MessageTurn, assessment: TurnAssessment, turns: Sequence[MessageTurn], version: str
) -> tuple[NewMessageEvidence, ...]:
    """The concerns that reached their thresholds, with the characters, here or in the turns before, that moved them."""
    return tuple(
        NewMessageEvidence(
            message_id=turn.message_id, version=turn.version, category=concern.category, severity=concern.severity,
            probability=concern.probability, threshold=concern.threshold, model=SAFEGUARDING, model_version=version,
            spans=tuple(
                MessageSpan(
                    message_id=turns[moved.turn].message_id, version=turns[moved.turn].version, start=moved.start,
                    end=moved.end, weight=moved.weight,
                )
                for moved in concern.evidence
            ),
        )
        for concern in assessment.concerns
    )  # fmt: skip
