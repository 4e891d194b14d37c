"""The one family of errors: a kind, a stable type, a sentence that says what to do.

Domain code raises these; the doors (HTTP, WebSocket, worker, command line) translate the kind. A message
never carries words that a person spoke or wrote: it names ids, limits and the next step.
"""

from enum import StrEnum


class Kind(StrEnum):
    """What sort of failure it is; each door maps a kind once (HTTP status, close code, retry or park)."""

    INVALID = "invalid"  # the input is wrong: 422, park
    REFUSED = "refused"  # not allowed, or no lawful ground: 403, park
    MISSING = "missing"  # not there, or not yours: 404, park
    CONFLICT = "conflict"  # the state forbids it: 409, park
    TOO_LARGE = "too_large"  # over a limit: 413, park
    UNAUTHENTICATED = "unauthenticated"  # no or bad token: 401
    UNAVAILABLE = "unavailable"  # try again later: 503, retry


class WriteCareError(Exception):
    """A failure that a person can act on.

    `kind` decides how each door answers; `slug` is the stable RFC 9457 `type`
    (`https://writecarenotes.com/problems/<slug>`); `detail` says what happened and what to do; `retry_after_seconds`
    when it makes sense to try again, where that is known.
    """

    def __init__(self, kind: Kind, slug: str, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.slug = slug
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[type["WriteCareError"], tuple[Kind, str, str, int | None]]:
        # Ray pickles errors between processes; the default would pass only `detail`.
        return (WriteCareError, (self.kind, self.slug, self.detail, self.retry_after_seconds))


def invalid(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.INVALID, slug, detail)


def refused(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.REFUSED, slug, detail)


def missing(what: str) -> WriteCareError:
    """Missing and another tenant's look the same, on purpose."""
    return WriteCareError(Kind.MISSING, "not-found", f"There is no such {what}, or it is not yours to see.")


def conflict(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.CONFLICT, slug, detail)


def too_large(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.TOO_LARGE, slug, detail)


def unavailable(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.UNAVAILABLE, slug, detail)
