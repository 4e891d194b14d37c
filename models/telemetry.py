"""Residents' data stay here: the telemetry of every library that has one is switched off, once, at the entry points.

Called before any of those libraries is imported; child processes inherit it. tests/journeys runs the main job where
every packet that is bound for outside is written down, which is how two of these lines were found.
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
    # Ray reports even that reporting is off: there is nobody at this address.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
}


def silence_telemetry() -> None:
    """Switches all of it off for this process and those that it starts."""
    os.environ.update(SILENCED)
