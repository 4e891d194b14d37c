"""The type for times that callers send: RFC 3339 with a date, a time of day and an offset, never a bare number.

The year must be 1900 to 2199, so that a period that is computed from a time can still be stored.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_YEARS: Final = range(1900, 2200)
TIME_INVALID: Final = "time_invalid"  # becomes the problem's type


def _written_out(value: Any) -> Any:
    """Refuses everything but RFC 3339 text. A `datetime` passes: only our own code sends one."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise PydanticCustomError(
            TIME_INVALID, "Send a time as RFC 3339 text with its offset from UTC, such as 2026-03-29T01:30:00+01:00."
        )
    return value


def _within_years(value: datetime) -> datetime:
    if value.year not in _YEARS:
        raise PydanticCustomError(TIME_INVALID, "The year of a time must be 1900 to 2199.")
    return value


Time = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    AfterValidator(_within_years),
    WithJsonSchema({
        "type": "string", "format": "date-time", "description": "RFC 3339 with offset, in the years 1900 to 2199.",
    }),
]  # fmt: skip
