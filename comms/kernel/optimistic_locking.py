"""Versions of records: a change names the version that it was made from, and is refused where that is not the last."""

from models.contract.errors import WriteCareError, conflict


def refuse_stale(current: int, expected: int | None) -> None:
    """Raises a conflict (`version-stale`; 412 over HTTP) where the caller saw another version than the current one."""
    if expected is not None and expected != current:
        raise version_stale()


def version_stale() -> WriteCareError:
    """What is raised where somebody would change what they have not seen."""
    return conflict("version-stale", "It has changed since you read it: read it again and repeat the change.")


def version_required() -> WriteCareError:
    """What is raised where a decision does not say what it was made of (428 over HTTP)."""
    return conflict(
        "version-required",
        "Send If-Match with the ETag of what you saw: somebody else may have decided meanwhile.",
    )


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller's `If-None-Match` names this ETag (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    return bool({tag.strip().removeprefix("W/") for tag in if_none_match.split(",")} & {etag, "*"})
