"""Metrics for Prometheus. They contain only numbers, codes and route names, never ids or text.

If several processes answer at one port, they count together: the launcher names a folder in the environment variable
`SHARED` (the multiprocess mode of prometheus_client). Each process then reports the counts of all.
"""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CALL_SECONDS: Final = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
_ROUND_TRIP_MILLISECONDS: Final = (25.0, 50.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
_LOST_RATIO: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Metrics:
    """Has its own registry, so that two applications in one process (tests) do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "writecare_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "writecare_http_request_seconds", "Time to the first byte of the answer", ("method", "route"),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.recordings_taken = Counter(
            "writecare_recordings_taken", "Recordings received, stored and queued", registry=self.registry
        )
        self.recordings_refused = Counter(
            "writecare_recordings_refused", "Uploads refused, by problem", ("problem",), registry=self.registry
        )
        self.sessions_ended = Counter(
            "writecare_sessions_ended", "Sessions ended or cancelled", ("session_type",), registry=self.registry
        )
        self.session_joined = Counter(
            "writecare_session_joined", "People who joined the sessions that have ended", ("session_type",),
            registry=self.registry,
        )  # fmt: skip
        self.session_seconds = Histogram(
            "writecare_session_seconds", "Time from a session's start to its end", ("session_type",),
            buckets=_CALL_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.session_round_trip_milliseconds = Histogram(
            "writecare_session_round_trip_milliseconds", "A session's mean round trip, from its participants' reports",
            buckets=_ROUND_TRIP_MILLISECONDS, registry=self.registry,
        )  # fmt: skip
        self.session_lost_packets_ratio = Histogram(
            "writecare_session_lost_packets_ratio", "A session's mean packet loss, from its participants' reports",
            buckets=_LOST_RATIO, registry=self.registry,
        )  # fmt: skip
        self.messages_unread = Gauge(
            "writecare_messages_unread", "Message versions that wait for their safeguarding assessment, all tenants",
            registry=self.registry, multiprocess_mode="mostrecent",  # the process that is asked has just updated it
        )  # fmt: skip
        self.reading_lag_seconds = Gauge(
            "writecare_message_reading_lag_seconds", "How long the oldest of them has waited",
            registry=self.registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.sockets_cut_off = Counter(
            "writecare_sockets_cut_off", "WebSockets that the server closed, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self.audio_seconds = Counter("writecare_audio_seconds", "Seconds of audio received", registry=self.registry)

    def render(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
