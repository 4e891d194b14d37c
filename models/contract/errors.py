"""The error class of the system: a kind, a stable type, and a text that says what to do.

Domain code raises these errors; HTTP, WebSocket, worker and command line translate the kind. A text never contains
words that a person spoke or wrote: it names ids, limits and the next step.
"""

from enum import StrEnum


class Kind(StrEnum):
    """The kind of an error.

    HTTP, WebSocket, worker and command line each map it once: to a status, a close code, retry or park.
    """

    INVALID = "invalid"  # the input is wrong: 422, park
    REFUSED = "refused"  # not allowed, or no lawful basis: 403, park
    MISSING = "missing"  # does not exist, or not visible to the caller: 404, park
    CONFLICT = "conflict"  # the state forbids it: 409, park
    TOO_LARGE = "too_large"  # over a limit: 413, park
    UNAUTHENTICATED = "unauthenticated"  # no token, or an invalid one: 401
    UNAVAILABLE = "unavailable"  # try again later: 503, retry


class WriteCareError(Exception):
    """An error that the caller can act on.

    `kind` decides the HTTP status, the close code, and whether the worker retries. `slug` is the stable RFC 9457 `type`
    (`https://writecarenotes.com/problems/<slug>`). `detail` says what happened and what to do. `retry_after_seconds`
    says when to try again, if that is known.
    """

    def __init__(self, kind: Kind, slug: str, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.slug = slug
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[type["WriteCareError"], tuple[Kind, str, str, int | None]]:
        # Ray pickles errors between processes; the default `__reduce__` would pass only `detail`.
        return (WriteCareError, (self.kind, self.slug, self.detail, self.retry_after_seconds))


def invalid(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.INVALID, slug, detail)


def refused(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.REFUSED, slug, detail)


def missing(what: str) -> WriteCareError:
    """The same error for an object that does not exist and for one of another tenant, on purpose."""
    return WriteCareError(Kind.MISSING, "not-found", f"There is no such {what}, or it is not yours to see.")


def conflict(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.CONFLICT, slug, detail)


def too_large(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.TOO_LARGE, slug, detail)


def unavailable(slug: str, detail: str) -> WriteCareError:
    return WriteCareError(Kind.UNAVAILABLE, slug, detail)
