"""What is counted and timed in this process, for Prometheus. Numbers and route names alone, never ids or words."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


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
        self.audio_seconds = Counter("writecare_audio_seconds", "Seconds of audio taken in", registry=self.registry)

    def render(self) -> bytes:
        """The exposition text of all measurements."""
        return generate_latest(self.registry)
