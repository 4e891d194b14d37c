"""Finds the evidence spans of messages that an alert cites. Runs after the alert was raised, at low priority.

The spans are found by deletion, which scores a message about a dozen times (`models/text/evidence.py`). This is the
most expensive step for a message, so it gives way to all others. Consent is checked as for the assessment: before the
models run, and again, with a lock, when the spans are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from comms.governance.consent.permissions import lock_permissions, permissions
from comms.kernel.database import Actor, Connection
from comms.safeguarding.alerts.records import MessageSpan
from comms.safeguarding.message_assessments.evidence import has_waiting_messages, lease_unexplained_evidence, save_spans
from comms.safeguarding.message_assessments.records import MessageTurn, UnexplainedEvidence
from comms.web.context import AppContext
from models.contract.records import Concern, TurnAssessment
from pipelines.alerting import SAFEGUARDING
from pipelines.message_assessment import captured_error, load_permitted_turns, split_retried, to_conversation
from pipelines.model_protocols import Models
from pipelines.recording_processing import WORKER

_BATCHES: Final = 8  # of one job; then other tenants' jobs run
_CONTEXT_TURNS: Final = 3  # the message and the two before it: deletion uses no more


@dataclass(frozen=True)
class _CitedMessage:
    """A cited message as the last of a few turns that the models get, and what the alert says about it."""

    turns: tuple[MessageTurn, ...]
    evidence: tuple[UnexplainedEvidence, ...]

    def assessments(self) -> tuple[TurnAssessment, ...]:
        """The first assessment, in the form that `explain` takes: the concerns belong to the last turn."""
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
        """The spans of each piece of evidence, by its id. `explained`: the last turn's concerns, in the same order.

        A concern that another model version raised gets no spans: this version's reasons are not that version's
        reasons.
        """
        return {
            piece.id: tuple(
                MessageSpan(
                    message_id=self.turns[phrase.turn].message_id, version=self.turns[phrase.turn].version,
                    start=phrase.start, end=phrase.end, weight=phrase.weight,
                )
                for phrase in (concern.evidence if piece.model_version == version else ())
            )
            for piece, concern in zip(self.evidence, explained.concerns, strict=True)
        }  # fmt: skip


async def explain_messages(ctx: AppContext, models: Models, tenant_id: UUID) -> bool:
    """Explains waiting evidence of the tenant, the newest first. Returns True if more may be waiting.

    While messages wait for their assessment, it explains only one piece. Raises the errors of the models; claimed
    evidence becomes due again.
    """
    actor = Actor(tenant_id, WORKER, "service")
    for _ in range(_BATCHES):
        async with ctx.database.acting_as(actor) as conn:
            claimed = await lease_unexplained_evidence(conn)
        if not claimed:
            return False
        tried = [
            await captured_error(_explain(ctx, models, actor, batch_items)) for batch_items in split_retried(claimed)
        ]
        if failures := [failure for failure in tried if failure is not None]:
            raise failures[0]
        async with ctx.database.acting_as(actor) as conn:
            if await has_waiting_messages(conn):
                return True
    return True


async def _explain(ctx: AppContext, models: Models, actor: Actor, claimed: Sequence[UnexplainedEvidence]) -> None:
    async with ctx.database.acting_as(actor) as conn:
        citations = await _load_citations(conn, claimed)
    if not citations:
        return
    explained = await models.explain(
        [to_conversation(citation.turns) for citation in citations], [citation.assessments() for citation in citations]
    )
    async with ctx.database.acting_as(actor) as conn:
        withdrawn = await _senders_without_consent(conn, citations)
        spans = [
            citation.spans(rows[-1], models.versions[SAFEGUARDING])
            for citation, rows in zip(citations, explained, strict=True)
            if withdrawn.isdisjoint(turn.sender_id for turn in citation.turns if turn.text)
        ]
        await save_spans(conn, {id: group for found in spans for id, group in found.items()})


async def _load_citations(conn: Connection, claimed: Sequence[UnexplainedEvidence]) -> list[_CitedMessage]:
    """The claimed evidence by message, reduced to what the models may read."""
    senders = sorted({piece.sender_id for piece in claimed})
    without_consent = {answer.user_id for answer in await permissions(conn, senders, "analyse") if not answer.permitted}
    pieces: dict[tuple[UUID, int], list[UnexplainedEvidence]] = {}
    for piece in claimed:
        if piece.sender_id not in without_consent:
            pieces.setdefault((piece.message_id, piece.version), []).append(piece)
    turns = await load_permitted_turns(conn, [group[0] for group in pieces.values()]) if pieces else ()
    return [_with_context(turn, turns, pieces[turn.message_id, turn.version]) for turn in turns if turn.due]


def _with_context(
    cited: MessageTurn, turns: Sequence[MessageTurn], evidence: Sequence[UnexplainedEvidence]
) -> _CitedMessage:
    before = [
        turn
        for turn in turns
        if turn.conversation_id == cited.conversation_id and turn.message_id < cited.message_id and turn.current
    ]
    return _CitedMessage((*before[1 - _CONTEXT_TURNS :], cited), tuple(evidence))


async def _senders_without_consent(conn: Connection, citations: Sequence[_CitedMessage]) -> set[UUID]:
    """The senders of messages shown to the models who have withdrawn their consent since."""
    shown = {
        turn.sender_id for citation in citations for turn in citation.turns if turn.text and turn.sender_id is not None
    }
    answers = await lock_permissions(conn, sorted(shown), "analyse") if shown else ()
    return {answer.user_id for answer in answers if not answer.permitted}
