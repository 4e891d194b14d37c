"""Switches off the telemetry of every library that sends any, so that no data leaves the machine.

The entry points call `silence_telemetry` before they import any of those libraries. Child processes inherit the
environment variables. A test in tests/journeys records every packet that is sent to an outside address.
"""

import os
from typing import Final

SILENCED: Final[dict[str, str]] = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYANNOTE_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray sends a report even to say that reporting is off. Nothing listens at this address.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
}


def silence_telemetry() -> None:
    """Switches telemetry off for this process and its children."""
    os.environ.update(SILENCED)
