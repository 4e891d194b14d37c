"""Measures a session when it is over, for the event `session.ended` and the metrics. Only numbers."""

from functools import reduce
from uuid import UUID

from comms.calls.sessions.connection_quality import ConnectionSummary, merge_summaries
from comms.kernel.database import Connection, one
from comms.kernel.metrics import Metrics
from models.contract.records import Record


class SessionMetrics(Record):
    """`duration_seconds` is null if the session never began, `connection` if no client sent a report."""

    duration_seconds: float | None
    participants: int
    joined: int
    recordings: int
    connection: ConnectionSummary | None


async def measure_session(conn: Connection, session_id: UUID) -> SessionMetrics:
    """Returns the measurements of a session that has just been ended or cancelled."""
    found = await conn.execute(
        "select extract(epoch from end_time - actual_start_time)::float8 as duration_seconds, "
        "(select count(*) from session_participants p where p.session_id = s.id) as participants, "
        "(select count(*) from session_participants p "
        "where p.session_id = s.id and p.joined_at is not null) as joined, "
        "(select count(*) from recordings r where r.session_id = s.id and r.status <> 'deleted') as recordings, "
        "(select coalesce(jsonb_agg(p.connection_quality_metrics -> 'summary'), '[]') from session_participants p "
        "where p.session_id = s.id and p.connection_quality_metrics is not null) as summaries "
        "from communication_sessions s where id = %s",
        (session_id,),
    )
    row = one(await found.fetchone())
    summaries = [ConnectionSummary.model_validate(summary) for summary in row.pop("summaries")]
    return SessionMetrics(**row, connection=reduce(merge_summaries, summaries) if summaries else None)


def count_session(metrics: Metrics, session_type: str, measured: SessionMetrics) -> None:
    """Adds an ended session to the Prometheus metrics."""
    metrics.sessions_ended.labels(session_type).inc()
    metrics.session_joined.labels(session_type).inc(measured.joined)
    if measured.duration_seconds is not None:
        metrics.session_seconds.labels(session_type).observe(measured.duration_seconds)
    if measured.connection is not None:
        metrics.session_round_trip_milliseconds.observe(measured.connection.mean_round_trip_milliseconds)
        metrics.session_lost_packets_ratio.observe(measured.connection.mean_lost_packets_ratio)
