"""Stores and reads the transcript and the analysis of a recording.

The worker writes them in one transaction with the alert. The recording routes read them under row-level security
(words: the care team; analyses: the safeguarding team). A job that runs twice finds its rows and writes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Actor, Connection, one
from comms.outbox.queries import emit
from models.contract.errors import invalid, missing
from models.contract.records import Analysis, Probability, Record, Transcript, Utterance


class SpeakerProposal(Record):
    """A proposal that a voice of a single-track recording is this participant; a person has to confirm it.

    `utterances` are the positions of the utterances that support it; empty if it follows from who the other speakers
    are. `model` is the model that made the proposal.
    """

    speaker: str
    participant_id: UUID
    probability: Probability
    utterances: tuple[int, ...]
    model: str


class StoredTranscript(Record):
    """A transcript with its database fields; `utterance_ids` and `participant_ids` have the order of its utterances."""

    id: UUID
    recording_id: UUID
    revision: int
    provider: str
    confidence_score: float | None
    created_at: datetime
    transcript: Transcript
    utterance_ids: tuple[UUID, ...]
    participant_ids: tuple[UUID | None, ...]
    name_proposals: tuple[SpeakerProposal, ...]


class StoredAnalysis(Record):
    """An analysis with its database fields."""

    id: UUID
    recording_id: UUID
    transcription_id: UUID
    confidence_level: float
    created_at: datetime
    analysis: Analysis


# --- reading -----------------------------------------------------------------------------------------------------


async def find_transcript(conn: Connection, recording_id: UUID, revision: int | None = None) -> StoredTranscript | None:
    """Returns the transcript of the recording (without `revision`, the newest), or None if the actor can see none."""
    row = await (
        await conn.execute(
            "select id, recording_id, revision, provider, language, confidence_score, duration_seconds, speakers, "
            "       words, models, name_proposals, not_understood, created_at "
            "from transcriptions where recording_id = %(recording)s "
            "and (%(revision)s::int is null or revision = %(revision)s) order by revision desc limit 1",
            {"recording": recording_id, "revision": revision},
        )
    ).fetchone()
    if row is None:
        return None
    said = await (
        await conn.execute(
            "select id, participant_id, speaker, start_seconds, end_seconds, text, confidence "
            "from utterances where transcription_id = %s order by position",
            (row["id"],),
        )
    ).fetchall()
    spoken = ("speaker", "start_seconds", "end_seconds", "text", "confidence")
    return StoredTranscript(
        **{name: row[name] for name in ("id", "recording_id", "revision", "provider", "confidence_score")},
        created_at=row["created_at"],
        transcript=Transcript(
            duration_seconds=row["duration_seconds"],
            language=row["language"],
            not_understood=row["not_understood"],
            speakers=row["speakers"],
            words=row["words"],
            utterances=tuple(Utterance(**{name: line[name] for name in spoken}) for line in said),
            models=row["models"],
        ),
        utterance_ids=tuple(line["id"] for line in said),
        participant_ids=tuple(line["participant_id"] for line in said),
        name_proposals=row["name_proposals"],
    )


async def load_transcript(conn: Connection, recording_id: UUID, revision: int | None = None) -> StoredTranscript:
    """As `find_transcript`, but raises `missing` instead of returning None."""
    stored = await find_transcript(conn, recording_id, revision)
    if stored is None:
        raise missing("transcript")
    return stored


async def find_analysis(conn: Connection, recording_id: UUID) -> StoredAnalysis | None:
    """Returns the analysis of the newest analysed transcript of the recording, or None if the actor can see none."""
    row = await (
        await conn.execute(
            "select a.id, a.recording_id, a.transcription_id, a.confidence_level, a.created_at, "
            "       a.document as analysis "
            "from analyses a where a.recording_id = %s order by a.id desc limit 1",
            (recording_id,),
        )
    ).fetchone()
    return None if row is None else StoredAnalysis.model_validate(row)


async def load_analysis(conn: Connection, recording_id: UUID) -> StoredAnalysis:
    """As `find_analysis`, but raises `missing` instead of returning None."""
    stored = await find_analysis(conn, recording_id)
    if stored is None:
        raise missing("analysis")
    return stored


# --- writing -----------------------------------------------------------------------------------------------------


async def save_transcript(
    conn: Connection,
    actor: Actor,
    recording_id: UUID,
    transcript: Transcript,
    *,
    participants: Mapping[str, UUID],
    provider: str,
    proposals: Sequence[SpeakerProposal] = (),
    revision: int = 1,
) -> UUID:
    """Stores the transcript with its utterances and returns its id. A second call for the revision returns the first
    id.

    `participants` maps each known speaker to a participant of the session, `proposals` proposes participants for the
    others. Emits `transcript.ready`. Raises `missing` if the recording does not exist.
    """
    session_id = await _lock(conn, recording_id)
    confidences = [word.confidence for word in transcript.words]
    row = await (
        await conn.execute(
            "insert into transcriptions (tenant_id, recording_id, revision, provider, language, confidence_score, "
            "    word_count, duration_seconds, speakers, words, models, name_proposals, not_understood) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (tenant_id, recording_id, revision) do nothing returning id",
            (
                actor.tenant_id, recording_id, revision, provider, transcript.language,
                sum(confidences) / len(confidences) if confidences else None,
                len(transcript.words), transcript.duration_seconds, list(transcript.speakers),
                Jsonb([word.model_dump(mode="json") for word in transcript.words]), Jsonb(transcript.models),
                Jsonb([proposal.model_dump(mode="json") for proposal in proposals]),
                Jsonb([stretch.model_dump(mode="json") for stretch in transcript.not_understood]),
            ),
        )
    ).fetchone()  # fmt: skip
    if row is None:
        return await _kept_transcription(conn, recording_id, revision)
    transcription_id: UUID = row["id"]
    await _save_utterances(conn, actor, transcription_id, transcript.utterances, participants)
    await emit(
        conn, actor, "transcript.ready", aggregate=("recording", recording_id),
        version=await _next_version(conn, recording_id),
        data={
            "recording_id": str(recording_id), "session_id": str(session_id),
            "transcription_id": str(transcription_id), "revision": revision,
        },
    )  # fmt: skip
    return transcription_id


async def save_analysis(
    conn: Connection,
    actor: Actor,
    recording_id: UUID,
    *,
    transcription_id: UUID,
    analysis: Analysis,
    confidence_level: float,
) -> UUID:
    """Stores the analysis and returns its id. A second call for the same transcription returns the first id."""
    row = await (
        await conn.execute(
            "insert into analyses (tenant_id, recording_id, transcription_id, risk_level, risk_score, "
            "    confidence_level, document, models) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (tenant_id, transcription_id) do nothing returning id",
            (
                actor.tenant_id, recording_id, transcription_id, analysis.risk.level, analysis.risk.score,
                confidence_level, Jsonb(analysis.model_dump(mode="json")), Jsonb(analysis.models),
            ),
        )
    ).fetchone()  # fmt: skip
    if row is None:
        row = await (
            await conn.execute("select id from analyses where transcription_id = %s", (transcription_id,))
        ).fetchone()
    kept: UUID = one(row)["id"]
    return kept


async def save_embeddings(
    conn: Connection, transcription_id: UUID, vectors: Sequence[Sequence[float]], model: str
) -> None:
    """Stores one vector of 384 for each utterance, in their order; raises `invalid` if the counts differ."""
    result = await conn.execute(
        "update utterances u set embedding = given.vector::vector, embedding_model = %s "
        "from unnest(%s::int[], %s::text[]) as given (position, vector) "
        "where u.transcription_id = %s and u.position = given.position",
        (
            model, list(range(len(vectors))),
            ["[" + ",".join(repr(float(number)) for number in vector) + "]" for vector in vectors],
            transcription_id,
        ),
    )  # fmt: skip
    counted = await (
        await conn.execute("select count(*) as n from utterances where transcription_id = %s", (transcription_id,))
    ).fetchone()
    if not result.rowcount == len(vectors) == one(counted)["n"]:
        raise invalid("embedding-count", "Send exactly one vector for each utterance of the transcript.")


async def _lock(conn: Connection, recording_id: UUID) -> UUID:
    """Locks the row of the recording and returns its session. Of two workers, the second waits and finds the rows of
    the first.
    """
    row = await (
        await conn.execute("select session_id from recordings where id = %s for update", (recording_id,))
    ).fetchone()
    if row is None:
        raise missing("recording")
    session_id: UUID = row["session_id"]
    return session_id


async def _next_version(conn: Connection, recording_id: UUID) -> int:
    """Returns the version of the next event of the recording; the caller has locked its row."""
    row = await (
        await conn.execute(
            "update recordings set version = version + 1 where id = %s returning version", (recording_id,)
        )
    ).fetchone()
    version: int = one(row)["version"]
    return version


async def _kept_transcription(conn: Connection, recording_id: UUID, revision: int) -> UUID:
    row = await (
        await conn.execute(
            "select id from transcriptions where recording_id = %s and revision = %s", (recording_id, revision)
        )
    ).fetchone()
    kept: UUID = one(row)["id"]
    return kept


async def _save_utterances(
    conn: Connection,
    actor: Actor,
    transcription_id: UUID,
    utterances: Sequence[Utterance],
    participants: Mapping[str, UUID],
) -> None:
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "insert into utterances (tenant_id, transcription_id, position, speaker, participant_id, start_seconds, "
            "    end_seconds, text, confidence) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    actor.tenant_id, transcription_id, position, said.speaker,
                    participants.get(said.speaker) if said.speaker is not None else None,
                    said.start_seconds, said.end_seconds, said.text, said.confidence,
                )
                for position, said in enumerate(utterances)
            ],
        )  # fmt: skip
