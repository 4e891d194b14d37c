"""Writes an alert for an analysis (at most one) and emits its events.

The worker calls it in the transaction that stores transcript and analysis. Consent is checked again here, under lock:
words of a person who has withdrawn it meanwhile are shown to nobody.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.governance.consent.permissions import lock_permissions
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.outbox.queries import emit
from comms.safeguarding.alerts.queries import alert_of
from comms.safeguarding.alerts.records import Alert, EvidenceSpan, NewAlert, NewEvidence
from comms.safeguarding.alerts.subjects import presume_subjects
from models.contract.errors import invalid, missing
from models.contract.records import SEVERITIES, Severity

_HIGH_PRIORITY = ("high", "critical")


async def raise_alert(conn: Connection, actor: Actor, new: NewAlert) -> Alert | None:
    """Writes the alert with its evidence and emits its events; a second call for the analysis returns the first alert.

    Evidence in the words of a person who does not permit the analysis now is left out; returns None if none remains.
    Raises `missing` for an unknown recording and `invalid` if evidence cites an utterance that does not exist.
    """
    if (existing := await find_alert(conn, new.analysis_id)) is not None:
        return existing
    cited = await _load_cited_utterances(conn, new)
    permitted = await _permitted_positions(conn, cited)
    evidence = tuple(_keep_permitted_spans(piece, permitted) for piece in new.evidence if piece.utterance in permitted)
    if not evidence:
        return None
    alert = await _insert(conn, actor, new, evidence)
    if alert is None:  # another worker has committed it meanwhile
        return await find_alert(conn, new.analysis_id)
    await _insert_evidence(conn, actor, alert.id, evidence, {row["position"]: row["id"] for row in cited})
    await presume_subjects(conn, actor, alert.id)
    await record_act(conn, actor, "alert.raised", ("alert", alert.id), {"analysis_id": str(new.analysis_id)})
    data = {
        "alert_id": str(alert.id), "session_id": str(alert.session_id), "recording_id": str(alert.recording_id),
        "severity": alert.severity,
    }  # fmt: skip
    await emit_alert_events(conn, actor, alert, data, before=None)
    return alert


async def emit_alert_events(
    conn: Connection, actor: Actor, alert: Alert, data: dict[str, Any], *, before: Severity | None
) -> None:
    """Emits `safeguarding.alert`; and `safeguarding.alert.high_priority` if the severity became high or critical."""
    await emit(conn, actor, "safeguarding.alert", aggregate=("alert", alert.id), version=alert.version, data=data)
    if alert.severity != before and alert.severity in _HIGH_PRIORITY:
        await emit(
            conn, actor, "safeguarding.alert.high_priority", aggregate=("alert", alert.id), version=alert.version,
            data=data,
        )  # fmt: skip


async def find_alert(conn: Connection, analysis_id: UUID) -> Alert | None:
    """Returns the alert of the analysis, or None if the actor can see none."""
    row = await (await conn.execute("select * from alerts where analysis_id = %s", (analysis_id,))).fetchone()
    return None if row is None else alert_of(row)


async def _load_cited_utterances(conn: Connection, new: NewAlert) -> list[dict[str, Any]]:
    """Returns every utterance that the evidence or its spans cite, with the user who spoke it, if known."""
    positions = {piece.utterance for piece in new.evidence}
    positions |= {span.utterance for piece in new.evidence for span in piece.spans}
    rows = await conn.execute(
        "select u.id, u.position, p.user_id from utterances u "
        "left join session_participants p on p.tenant_id = u.tenant_id and p.id = u.participant_id "
        "where u.transcription_id = %s and u.position = any(%s)",
        (new.transcription_id, sorted(positions)),
    )
    cited = await rows.fetchall()
    if len(cited) != len(positions):
        raise invalid(
            "evidence-astray",
            "The evidence cites an utterance that is not in the transcript: use positions of this transcript.",
        )
    return cited


async def _permitted_positions(conn: Connection, cited: Sequence[dict[str, Any]]) -> frozenset[int]:
    people = sorted({row["user_id"] for row in cited if row["user_id"] is not None})
    answers = await lock_permissions(conn, people, "analyse") if people else ()
    barred = {answer.user_id for answer in answers if not answer.permitted}
    return frozenset(row["position"] for row in cited if row["user_id"] not in barred)


def _keep_permitted_spans(piece: NewEvidence, permitted: frozenset[int]) -> NewEvidence:
    spans: tuple[EvidenceSpan, ...] = tuple(span for span in piece.spans if span.utterance in permitted)
    return piece.model_copy(update={"spans": spans})


async def _insert(conn: Connection, actor: Actor, new: NewAlert, evidence: Sequence[NewEvidence]) -> Alert | None:
    found = await conn.execute("select session_id from recordings where id = %s", (new.recording_id,))
    recording = await found.fetchone()
    if recording is None:
        raise missing("recording")
    likeliest_first = sorted(evidence, key=lambda piece: -piece.probability)
    row = await conn.execute(
        "insert into alerts (tenant_id, session_id, recording_id, analysis_id, severity, categories, probability, "
        "models) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (tenant_id, analysis_id) do nothing returning *",
        (
            actor.tenant_id, recording["session_id"], new.recording_id, new.analysis_id,
            # of the remaining evidence, not of all that the models found
            max((piece.severity for piece in evidence), key=SEVERITIES.index),
            list(dict.fromkeys(piece.category for piece in likeliest_first)),
            likeliest_first[0].probability, Jsonb(new.models),
        ),
    )  # fmt: skip
    inserted = await row.fetchone()
    return None if inserted is None else alert_of(inserted)


async def _insert_evidence(
    conn: Connection, actor: Actor, alert_id: UUID, evidence: Sequence[NewEvidence], utterances: dict[int, UUID]
) -> None:
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "insert into alert_evidence (tenant_id, alert_id, utterance_id, category, severity, probability, "
            "    threshold, model, model_version, spans) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    actor.tenant_id, alert_id, utterances[piece.utterance], piece.category, piece.severity,
                    piece.probability, piece.threshold, piece.model, piece.model_version,
                    Jsonb([span.model_dump() for span in piece.spans]),
                )
                for piece in evidence
            ],
        )  # fmt: skip
