"""Stores the connection quality that the client of each participant reports, and its summary."""

from datetime import UTC, datetime
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import Field

from comms.kernel.database import Actor, Connection
from models.contract.errors import conflict, missing
from models.contract.records import Record


class ConnectionReport(Record):
    """What a client measured since its last report (RTCPeerConnection.getStats)."""

    round_trip_milliseconds: float = Field(ge=0, le=600_000, allow_inf_nan=False)
    jitter_milliseconds: float = Field(ge=0, le=600_000, allow_inf_nan=False)
    lost_packets_ratio: float = Field(ge=0, le=1, allow_inf_nan=False)
    bitrate_kilobits_per_second: float = Field(ge=0, le=10_000_000, allow_inf_nan=False)


class ConnectionSummary(Record):
    """The summary of several reports: means and worst values."""

    reports: int
    mean_round_trip_milliseconds: float
    worst_round_trip_milliseconds: float
    mean_jitter_milliseconds: float
    mean_lost_packets_ratio: float
    worst_lost_packets_ratio: float
    mean_bitrate_kilobits_per_second: float


class ConnectionQuality(Record):
    """The connection of a participant: the latest report, and the summary of all reports."""

    latest: ConnectionReport
    reported_at: datetime
    summary: ConnectionSummary


async def report_connection(
    conn: Connection, actor: Actor, session_id: UUID, report: ConnectionReport
) -> ConnectionQuality:
    """Stores a report of the actor; raises `missing`, a conflict (`not-in-the-call`)."""
    found = await conn.execute(
        "select joined_at is not null and left_at is null as present, connection_quality_metrics as quality "
        "from session_participants where session_id = %s and user_id = %s for no key update",
        (session_id, actor.user_id),
    )
    row = await found.fetchone()
    if row is None:
        raise missing("participant")
    if not row["present"]:
        raise conflict("not-in-the-call", "You are not in this call: join it first.")
    summary = _summary_of(report)
    if row["quality"] is not None:
        summary = merge_summaries(ConnectionQuality.model_validate(row["quality"]).summary, summary)
    quality = ConnectionQuality(latest=report, reported_at=datetime.now(UTC), summary=summary)
    await conn.execute(
        "update session_participants set connection_quality_metrics = %s where session_id = %s and user_id = %s",
        (Jsonb(quality.model_dump(mode="json")), session_id, actor.user_id),
    )
    return quality


def merge_summaries(one: ConnectionSummary, other: ConnectionSummary) -> ConnectionSummary:
    """Returns the summary of the reports of both."""
    reports = one.reports + other.reports

    def mean(of_one: float, of_other: float) -> float:
        return (of_one * one.reports + of_other * other.reports) / reports

    return ConnectionSummary(
        reports=reports,
        mean_round_trip_milliseconds=mean(one.mean_round_trip_milliseconds, other.mean_round_trip_milliseconds),
        worst_round_trip_milliseconds=max(one.worst_round_trip_milliseconds, other.worst_round_trip_milliseconds),
        mean_jitter_milliseconds=mean(one.mean_jitter_milliseconds, other.mean_jitter_milliseconds),
        mean_lost_packets_ratio=mean(one.mean_lost_packets_ratio, other.mean_lost_packets_ratio),
        worst_lost_packets_ratio=max(one.worst_lost_packets_ratio, other.worst_lost_packets_ratio),
        mean_bitrate_kilobits_per_second=mean(
            one.mean_bitrate_kilobits_per_second, other.mean_bitrate_kilobits_per_second
        ),
    )


def _summary_of(report: ConnectionReport) -> ConnectionSummary:
    return ConnectionSummary(
        reports=1,
        mean_round_trip_milliseconds=report.round_trip_milliseconds,
        worst_round_trip_milliseconds=report.round_trip_milliseconds,
        mean_jitter_milliseconds=report.jitter_milliseconds,
        mean_lost_packets_ratio=report.lost_packets_ratio,
        worst_lost_packets_ratio=report.lost_packets_ratio,
        mean_bitrate_kilobits_per_second=report.bitrate_kilobits_per_second,
    )
