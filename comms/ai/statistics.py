"""Statistics from the tenant's own rows, without a model: who speaks how much, and which concerns are frequent.

The queries run under row-level security and return only counts and ids, no words.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from comms.kernel.database import Connection
from models.contract.records import Category, Record, RiskLevel, Severity


class Period(Record):
    """From `since` (included) to `until` (excluded)."""

    since: datetime
    until: datetime


class SessionPattern(Record):
    """Sessions of one type that were created in the period."""

    session_type: str
    sessions: int
    cancelled: int
    recordings: int
    recorded_seconds: float


class SpeechPattern(Record):
    """One person's speech in the recordings of the period, as far as the speakers are known."""

    user_id: UUID
    participant_type: str
    recordings: int
    utterances: int
    speaking_seconds: float
    last_heard_at: datetime


class CommunicationPatterns(Record):
    period: Period
    sessions: tuple[SessionPattern, ...]
    people: tuple[SpeechPattern, ...]


class CategoryIndicator(Record):
    """Alerts with this category. `alerts_before` counts those of the previous period of equal length."""

    category: Category
    alerts: int
    alerts_before: int
    open: int
    confirmed: int
    dismissed: int
    highest_severity: Severity | None


class NotRead(Record):
    """What the models could not understand, newest first: a person must listen to it or read it.

    Recordings with speech that was not understood or in a language that the models do not know, and conversations with
    messages in such a language.
    """

    recordings: tuple[UUID, ...]
    conversations: tuple[UUID, ...]


class RiskIndicators(Record):
    """How many conversations had which risk level, and which concerns were raised. They are signs, not findings."""

    period: Period
    not_read: NotRead
    risk_levels: dict[RiskLevel, int]
    categories: tuple[CategoryIndicator, ...]


async def communication_patterns(conn: Connection, period: Period, most_people: int = 200) -> CommunicationPatterns:
    """Counts sessions by type, and people by their speaking time, longest first."""
    asked: dict[str, Any] = {"since": period.since, "until": period.until, "most": most_people}
    sessions = await conn.execute(
        "select s.session_type, count(distinct s.id) as sessions, "
        "       count(distinct s.id) filter (where s.status = 'cancelled') as cancelled, "
        "       count(r.id) as recordings, coalesce(sum(r.duration_seconds), 0) as recorded_seconds "
        "from communication_sessions s "
        "left join recordings r on r.tenant_id = s.tenant_id and r.session_id = s.id and r.status <> 'deleted' "
        "where s.created_at >= %(since)s and s.created_at < %(until)s group by s.session_type order by s.session_type",
        asked,
    )
    by_type = tuple([SessionPattern(**row) async for row in sessions])
    people = await conn.execute(
        "select p.user_id, min(p.participant_type) as participant_type, "
        "       count(distinct r.id) as recordings, count(*) as utterances, "
        "       sum(u.end_seconds - u.start_seconds) as speaking_seconds, max(r.started_at) as last_heard_at "
        "from recordings r "
        "join transcriptions t on t.tenant_id = r.tenant_id and t.recording_id = r.id "
        "    and not exists (select from transcriptions newer where newer.tenant_id = t.tenant_id "
        "                    and newer.recording_id = t.recording_id and newer.revision > t.revision) "
        "join utterances u on u.tenant_id = t.tenant_id and u.transcription_id = t.id "
        "join session_participants p on p.tenant_id = u.tenant_id and p.id = u.participant_id "
        "where r.started_at >= %(since)s and r.started_at < %(until)s "
        "group by p.user_id order by speaking_seconds desc, p.user_id limit %(most)s",
        asked,
    )
    return CommunicationPatterns(
        period=period, sessions=by_type, people=tuple([SpeechPattern(**row) async for row in people])
    )


async def risk_indicators(conn: Connection, period: Period) -> RiskIndicators:
    """Counts the risk levels of conversations analysed in the period, and concerns by category, most alerts first."""
    asked: dict[str, Any] = {
        "since": period.since,
        "until": period.until,
        "before": period.since - (period.until - period.since),
    }
    levels = await conn.execute(
        "select risk_level, count(*) as n from analyses where created_at >= %(since)s and created_at < %(until)s "
        "group by risk_level",
        asked,
    )
    counted: dict[RiskLevel, int] = {row["risk_level"]: row["n"] async for row in levels}
    categories = await conn.execute(
        "with named as (select unnest(categories) as category, state, severity, rank, created_at >= %(since)s as now "
        "               from alerts where created_at >= %(before)s and created_at < %(until)s) "
        "select category, count(*) filter (where now) as alerts, count(*) filter (where not now) as alerts_before, "
        "       count(*) filter (where now and state in ('new', 'claimed', 'escalated')) as open, "
        "       count(*) filter (where now and state in ('confirmed', 'referred')) as confirmed, "
        "       count(*) filter (where now and state = 'dismissed') as dismissed, "
        "       (array_agg(severity order by rank) filter (where now))[1] as highest_severity "
        "from named group by category order by alerts desc, category",
        asked,
    )
    return RiskIndicators(
        period=period,
        not_read=await _not_read(conn, asked),
        risk_levels=counted,
        categories=tuple([CategoryIndicator(**row) async for row in categories]),
    )


async def _not_read(conn: Connection, asked: dict[str, Any], most: int = 200) -> NotRead:
    recordings = await conn.execute(
        "select t.recording_id as id from transcriptions t join recordings r on r.tenant_id = t.tenant_id "
        "    and r.id = t.recording_id and r.status <> 'deleted' "
        "where t.created_at >= %(since)s and t.created_at < %(until)s "
        "    and (t.not_understood <> '[]' or t.language <> 'en') "
        "group by t.recording_id order by max(t.created_at) desc limit %(most)s",
        {**asked, "most": most},
    )
    conversations = await conn.execute(
        "select conversation_id as id from message_readings where unread_language is not null "
        "    and created_at >= %(since)s and created_at < %(until)s "
        "group by conversation_id order by max(created_at) desc limit %(most)s",
        {**asked, "most": most},
    )
    return NotRead(
        recordings=tuple([row["id"] async for row in recordings]),
        conversations=tuple([row["id"] async for row in conversations]),
    )
