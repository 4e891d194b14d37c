"""What is counted and timed, for Prometheus. Numbers and route names alone, never ids or words.

Of this process; of all that answer at one port where there are several: the launcher then names a folder in which they
count together (`SHARED`, prometheus_client's own way), and whichever is asked tells of all.
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
    """A registry of its own, so that two applications in one process (tests) do not share counts."""

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
            "writecare_recordings_taken", "Recordings taken in, stored and queued", registry=self.registry
        )
        self.recordings_refused = Counter(
            "writecare_recordings_refused", "Uploads refused, by problem", ("problem",), registry=self.registry
        )
        self.sessions_ended = Counter(
            "writecare_sessions_ended", "Sessions ended or cancelled", ("session_type",), registry=self.registry
        )
        self.session_joined = Counter(
            "writecare_session_joined", "People who joined sessions that are over", ("session_type",),
            registry=self.registry,
        )  # fmt: skip
        self.session_seconds = Histogram(
            "writecare_session_seconds", "From a session's start to its end", ("session_type",),
            buckets=_CALL_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.session_round_trip_milliseconds = Histogram(
            "writecare_session_round_trip_milliseconds", "A session's mean, over its participants' reports",
            buckets=_ROUND_TRIP_MILLISECONDS, registry=self.registry,
        )  # fmt: skip
        self.session_lost_packets_ratio = Histogram(
            "writecare_session_lost_packets_ratio", "A session's mean, over its participants' reports",
            buckets=_LOST_RATIO, registry=self.registry,
        )  # fmt: skip
        self.messages_unread = Gauge(
            "writecare_messages_unread", "Versions of messages that are to be read for safeguarding, of all tenants",
            registry=self.registry, multiprocess_mode="mostrecent",  # whichever is asked has just looked
        )  # fmt: skip
        self.reading_lag_seconds = Gauge(
            "writecare_message_reading_lag_seconds", "Since when the longest of them waits",
            registry=self.registry, multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.sockets_cut_off = Counter(
            "writecare_sockets_cut_off", "WebSockets that were closed by the server, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self.audio_seconds = Counter("writecare_audio_seconds", "Seconds of audio taken in", registry=self.registry)

    def render(self) -> bytes:
        """The exposition text of all measurements."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
