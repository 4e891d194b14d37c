"""Which words of a message moved the model, found once its alert is up: patient work, for what an alert cites alone.

By deletion, which reads the message a dozen times (`models/text/evidence.py`): the dearest of all that is done with a
message, and the one that gives way. Consent is asked as for reading, before and, locked, when kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from comms.governance.consent.permissions import lock_permissions, permissions
from comms.kernel.database import Actor, Connection
from comms.safeguarding.alerts.records import MessageSpan
from comms.safeguarding.message_assessments.evidence import keep_spans, messages_wait, take_unexplained
from comms.safeguarding.message_assessments.records import MessageTurn, UnexplainedEvidence
from comms.web.context import House
from models.contract.records import Concern, TurnAssessment
from pipelines.alerting import SAFEGUARDING
from pipelines.message_assessment import apart, conversation_of, failure_of, load_permitted
from pipelines.model_protocols import Models
from pipelines.recording_processing import WORKER

_BATCHES: Final = 8  # of a job: then it is another tenant's turn
_TURNS: Final = 3  # the message and two before it: as many as deletion looks at


@dataclass(frozen=True)
class _Matter:
    """A cited message, last of the few turns that the models are shown of it, and what an alert says of it."""

    turns: tuple[MessageTurn, ...]
    evidence: tuple[UnexplainedEvidence, ...]

    def assessments(self) -> tuple[TurnAssessment, ...]:
        """What was found when it was judged, as `explain` takes it: the concerns at the last turn."""
        concerns = tuple(
            Concern(
                category=piece.category, severity=piece.severity, probability=piece.probability,
                threshold=piece.threshold,
            )
            for piece in self.evidence
        )  # fmt: skip
        quiet = TurnAssessment(scores={}, concerns=())
        return (*(quiet for _ in self.turns[1:]), TurnAssessment(scores={}, concerns=concerns))

    def spans(self, explained: TurnAssessment, version: str) -> dict[UUID, tuple[MessageSpan, ...]]:
        """The spans of each piece of evidence, by its id; `explained`: the last turn's, concerns in the same order.

        None of what another version of the model raised: this one's reasons were not that one's.
        """
        return {
            piece.id: tuple(
                MessageSpan(
                    message_id=self.turns[moved.turn].message_id, version=self.turns[moved.turn].version,
                    start=moved.start, end=moved.end, weight=moved.weight,
                )
                for moved in (concern.evidence if piece.model_version == version else ())
            )
            for piece, concern in zip(self.evidence, explained.concerns, strict=True)
        }  # fmt: skip


async def explain_messages(house: House, models: Models, tenant_id: UUID) -> bool:
    """Explains evidence that waits for it in the tenant, the newest first; returns whether more may wait.

    While messages wait to be read it explains one piece alone. Raises what the models raised: what was taken comes due
    again.
    """
    actor = Actor(tenant_id, WORKER, "service")
    for _ in range(_BATCHES):
        async with house.database.acting_as(actor) as conn:
            taken = await take_unexplained(conn)
        if not taken:
            return False
        tried = [await failure_of(_explain(house, models, actor, together)) for together in apart(taken)]
        if failures := [failure for failure in tried if failure is not None]:
            raise failures[0]
        async with house.database.acting_as(actor) as conn:
            if await messages_wait(conn):
                return True
    return True


async def _explain(house: House, models: Models, actor: Actor, taken: Sequence[UnexplainedEvidence]) -> None:
    async with house.database.acting_as(actor) as conn:
        matters = await _matters(conn, taken)
    if not matters:
        return
    explained = await models.explain(
        [conversation_of(matter.turns) for matter in matters], [matter.assessments() for matter in matters]
    )
    async with house.database.acting_as(actor) as conn:
        withdrawn = await _withdrawn(conn, matters)
        spans = [
            matter.spans(rows[-1], models.versions[SAFEGUARDING])
            for matter, rows in zip(matters, explained, strict=True)
            if withdrawn.isdisjoint(turn.sender_id for turn in matter.turns if turn.text)
        ]
        await keep_spans(conn, {id: of_it for found in spans for id, of_it in found.items()})


async def _matters(conn: Connection, taken: Sequence[UnexplainedEvidence]) -> list[_Matter]:
    """What may be shown to the models of what was taken, a message each."""
    senders = sorted({piece.sender_id for piece in taken})
    barred = {answer.user_id for answer in await permissions(conn, senders, "analyse") if not answer.permitted}
    pieces: dict[tuple[UUID, int], list[UnexplainedEvidence]] = {}
    for piece in taken:
        if piece.sender_id not in barred:
            pieces.setdefault((piece.message_id, piece.version), []).append(piece)
    turns = await load_permitted(conn, [of_it[0] for of_it in pieces.values()]) if pieces else ()
    return [_matter(turn, turns, pieces[turn.message_id, turn.version]) for turn in turns if turn.due]


def _matter(cited: MessageTurn, turns: Sequence[MessageTurn], evidence: Sequence[UnexplainedEvidence]) -> _Matter:
    before = [
        turn
        for turn in turns
        if turn.conversation_id == cited.conversation_id and turn.message_id < cited.message_id and turn.current
    ]
    return _Matter((*before[1 - _TURNS :], cited), tuple(evidence))


async def _withdrawn(conn: Connection, matters: Sequence[_Matter]) -> set[UUID]:
    """Those whose words were shown and who permit that no more."""
    shown = {turn.sender_id for matter in matters for turn in matter.turns if turn.text and turn.sender_id is not None}
    answers = await lock_permissions(conn, sorted(shown), "analyse") if shown else ()
    return {answer.user_id for answer in answers if not answer.permitted}
