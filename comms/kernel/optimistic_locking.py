"""Record versions: a change names the version that it is based on, and is refused if a newer version exists."""

from models.contract.errors import WriteCareError, conflict


def refuse_stale(current: int, expected: int | None) -> None:
    """Raises a conflict (`version-stale`; 412 over HTTP) if the caller read another version than the current one."""
    if expected is not None and expected != current:
        raise version_stale()


def version_stale() -> WriteCareError:
    """The error for a change that is based on an old version."""
    return conflict("version-stale", "The record has changed since you read it: read it again and repeat the change.")


def version_required() -> WriteCareError:
    """The error for a decision that names no version (428 over HTTP)."""
    return conflict(
        "version-required",
        "Send If-Match with the ETag that you read: another person may have decided in the meantime.",
    )


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller's `If-None-Match` names this ETag (weak comparison: RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    return bool({tag.strip().removeprefix("W/") for tag in if_none_match.split(",")} & {etag, "*"})
