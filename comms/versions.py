"""Versions of records: a change names the version that it was made from, and is refused where that is not the last."""

from models.errors import WriteCareError, conflict


def refuse_stale(current: int, expected: int | None) -> None:
    """Raises a conflict (`version-stale`; 412 over HTTP) where the caller saw another version than the current one."""
    if expected is not None and expected != current:
        raise stale()


def stale() -> WriteCareError:
    """What is raised where somebody would change what they have not seen."""
    return conflict("version-stale", "It has changed since you read it: read it again and repeat the change.")
