"""Makes recordings in the state that a test needs: stored, transcribed, analysed, with an alert. The texts are
invented.
"""

from dataclasses import dataclass
from uuid import UUID

from comms.calls.transcripts.queries import save_analysis, save_transcript
from comms.governance.consent.lawful_grounds import (
    LegalBasis,
    NewProcessingActivity,
    ProcessingActivity,
    Purpose,
    decide_ground,
)
from comms.kernel.database import Actor, Connection, one
from comms.safeguarding.alerts.recording_alerts import raise_alert
from comms.safeguarding.alerts.records import Alert
from comms.web.context import AppContext
from models.contract.records import (
    CATEGORIES,
    AnalysedTurn,
    Analysis,
    Category,
    Concern,
    Evidence,
    Risk,
    Sentiment,
    Severity,
    Summary,
    SummarySentence,
    Transcript,
    Unsure,
    Utterance,
    Word,
)
from pipelines.alerting import alert_for
from tests import factories

LINES = (
    ("S1", "Morning, how did the night go?"),
    ("S2", "He grabbed my arm and it still hurts."),
    ("S1", "Who did that to you?"),
    ("S2", "The man who helps at bath time."),
    ("S1", "I will tell the manager today."),
)
UNSURE_LINE = 3  # what the reading is not sure of


@dataclass(frozen=True)
class RecordingFixture:
    """A recording of two people, with the actors that a test needs."""

    recording_id: UUID
    session_id: UUID
    participants: dict[str, UUID]
    people: dict[str, Actor]
    worker: Actor
    lead: Actor

    @property
    def tenant_id(self) -> UUID:
        return self.lead.tenant_id


async def put_activity_in_force(
    ctx: AppContext, tenant_id: UUID, purpose: Purpose, basis: LegalBasis = "public_task"
) -> ProcessingActivity:
    """Puts a processing activity in force, as the data-protection officer does."""
    officer = await factories.make_user(ctx, tenant_id, "data_protection_officer")
    async with ctx.database.acting_as(officer) as conn:
        new = NewProcessingActivity(
            activity_type=purpose, legal_basis=basis, purpose="To keep residents safe",
            special_category_condition="DPA 2018 Sch. 1 para. 18",
        )  # fmt: skip
        return await decide_ground(conn, officer, new)


async def make_recording(
    ctx: AppContext, tenant_id: UUID | None = None, basis: LegalBasis = "public_task"
) -> RecordingFixture:
    """A recording with one mixed track of a carer (S1) and a resident (S2), with the lawful bases in force."""
    tenant_id = tenant_id or await factories.make_tenant(ctx)
    people = {
        "S1": await factories.make_user(ctx, tenant_id, "care_worker"),
        "S2": await factories.make_user(ctx, tenant_id, "resident"),
    }
    worker = await factories.make_user(ctx, tenant_id, "service")
    lead = await factories.make_user(ctx, tenant_id, "safeguarding_lead")
    for purpose in ("transcribe", "analyse"):
        await put_activity_in_force(ctx, tenant_id, purpose, basis)
    async with ctx.database.acting_as(people["S1"]) as conn:
        session_id = await _id(
            conn,
            "insert into communication_sessions (tenant_id, session_type, title, status, created_by) "
            "values (%s, 'audio_call', 'A call', 'ended', %s) returning id",
            tenant_id, people["S1"].user_id,
        )  # fmt: skip
        participants = {
            speaker: await _id(
                conn,
                "insert into session_participants (tenant_id, session_id, user_id, participant_type) "
                "values (%s, %s, %s, %s) returning id",
                tenant_id, session_id, person.user_id, kind,
            )
            for (speaker, person), kind in zip(people.items(), ("staff", "resident"), strict=True)
        }  # fmt: skip
        recording_id = await _id(
            conn,
            "insert into recordings (tenant_id, session_id, status, duration_seconds, started_by) "
            "values (%s, %s, 'processing', 20, %s) returning id",
            tenant_id, session_id, people["S1"].user_id,
        )  # fmt: skip
        await conn.execute(
            "insert into recording_tracks (tenant_id, recording_id, position, object_key, media_type, size_bytes, "
            "duration_seconds, wrapped_key, key_id) values (%s, %s, 0, %s, 'audio/wav', 10, 20, '', 'k')",
            (tenant_id, recording_id, str(recording_id)),
        )
    return RecordingFixture(recording_id, session_id, participants, people, worker, lead)


async def add_participant_row(ctx: AppContext, recording: RecordingFixture, person: Actor) -> None:
    """Adds the person as a participant of the session."""
    async with ctx.database.acting_as(recording.people["S1"]) as conn:
        await conn.execute(
            "insert into session_participants (tenant_id, session_id, user_id, participant_type) "
            "values (%s, %s, %s, 'staff')",
            (recording.tenant_id, recording.session_id, person.user_id),
        )


async def _id(conn: Connection, statement: str, *values: object) -> UUID:
    found: UUID = one(await (await conn.execute(statement.encode(), values)).fetchone())["id"]
    return found


def transcript() -> Transcript:
    """A transcript of the lines, four seconds each."""
    utterances = tuple(
        Utterance(speaker=who, start_seconds=4.0 * n, end_seconds=4.0 * n + 3.5, text=text, confidence=0.9)
        for n, (who, text) in enumerate(LINES)
    )
    words = tuple(
        Word(word=word, start_seconds=said.start_seconds, end_seconds=said.end_seconds, confidence=0.9,
             speaker=said.speaker)
        for said in utterances
        for word in said.text.split()
    )  # fmt: skip
    return Transcript(
        duration_seconds=20.0, language="en", speakers=("S1", "S2"), words=words, utterances=utterances,
        models={"transcription": "whisper-base@1"},
    )  # fmt: skip


def analysis(severity: Severity = "high", categories: tuple[Category, ...] = ("physical_abuse",)) -> Analysis:
    """An analysis with one concern for each category in the second line; its evidence is in the second and fourth
    lines.
    """
    evidence = (
        Evidence(turn=1, start=3, end=17, text="grabbed my arm", weight=0.7),
        Evidence(turn=3, start=4, end=7, text="man", weight=0.2),
    )
    found = tuple(
        Concern(category=name, severity=severity, probability=0.9 - 0.1 * n, threshold=0.4, evidence=evidence)
        for n, name in enumerate(categories)
    )
    calm = Sentiment(label="neutral", probabilities={"negative": 0.1, "neutral": 0.8, "positive": 0.1})
    scores = dict.fromkeys((*CATEGORIES, "any"), 0.01)
    turns = tuple(
        AnalysedTurn(
            scores=scores, concerns=found if position == 1 else (), sentiment=calm,
            unsure=Unsure(probability=0.09, threshold=0.05) if position == UNSURE_LINE else None,
        )
        for position in range(len(LINES))
    )  # fmt: skip
    sentence = SummarySentence(text="A resident says that they were grabbed.", turns=(1,))
    return Analysis(
        id="c1", turns=turns, risk=Risk(level=severity, score=0.9),
        summary=Summary(text=sentence.text, sentences=(sentence,)), actions=(),
        models={"safeguarding": "safeguarding@1"},
    )  # fmt: skip


async def transcribe(worker_ctx: AppContext, recording: RecordingFixture) -> UUID:
    """Stores the transcript, as the worker does."""
    async with worker_ctx.database.acting_as(recording.worker) as conn:
        return await save_transcript(
            conn,
            recording.worker,
            recording.recording_id,
            transcript(),
            participants=recording.participants,
            provider="test",
        )


async def raise_test_alert(
    worker_ctx: AppContext,
    recording: RecordingFixture,
    severity: Severity = "high",
    categories: tuple[Category, ...] = ("physical_abuse",),
) -> Alert | None:
    """Stores transcript, analysis and alert in one transaction, as the worker does."""
    async with worker_ctx.database.acting_as(recording.worker) as conn:
        read = analysis(severity, categories)
        transcription_id = await save_transcript(
            conn,
            recording.worker,
            recording.recording_id,
            transcript(),
            participants=recording.participants,
            provider="test",
        )
        analysis_id = await save_analysis(
            conn, recording.worker, recording.recording_id, transcription_id=transcription_id, analysis=read,
            confidence_level=0.8,
        )  # fmt: skip
        new = alert_for(
            read, recording_id=recording.recording_id, transcription_id=transcription_id, analysis_id=analysis_id
        )
        assert new is not None
        return await raise_alert(conn, recording.worker, new)


async def seen(ctx: AppContext, actor: Actor, alert_id: UUID | str) -> dict[str, str]:
    """The `If-Match` header for a decision on the alert's current version; for actors who cannot see it, version 1."""
    found = await factories.rows(ctx, actor, "select version from alerts where id = %s", alert_id)
    return {"If-Match": f'"{found[0]["version"] if found else 1}"'}


async def make_alert(
    ctx: AppContext,
    worker_ctx: AppContext,
    tenant_id: UUID | None = None,
    severity: Severity = "high",
    categories: tuple[Category, ...] = ("physical_abuse",),
) -> tuple[RecordingFixture, Alert]:
    """A recording that was processed completely, with an alert."""
    recording = await make_recording(ctx, tenant_id)
    alert = await raise_test_alert(worker_ctx, recording, severity, categories)
    assert alert is not None
    return recording, alert
