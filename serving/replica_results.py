"""What a replica sends back: the answer with the versions that gave it, or the error in its place.

One bad item of a batch must not cost the others their answer, so an item's error travels as a value; `taken` raises
it again on the caller's side.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

from models.contract.errors import WriteCareError, unavailable

Given = TypeVar("Given")
Told = TypeVar("Told")

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answer(Generic[Told]):
    """`value` and `versions` (capability -> version), or `error`. `repr` shows no value: it may be spoken words."""

    value: Told | None
    versions: Mapping[str, str]
    error: WriteCareError | None = None

    def __repr__(self) -> str:
        return f"Answer(versions={dict(self.versions)!r}, error={self.error!r})"

    def taken(self) -> Told:
        """The value; raises the item's error."""
        if self.error is not None:
            raise self.error
        assert self.value is not None, "an answer has a value or an error"
        return self.value


def answer_one(ask: Callable[[], Told], versions: Mapping[str, str]) -> Answer[Told]:
    """What `ask` returns, or what it raises, as an answer."""
    try:
        return Answer(ask(), versions)
    except WriteCareError as error:
        return Answer(None, versions, error)
    except Exception as error:
        # Neither Ray's nor our logs may quote what a library failed on: the type and the place say enough.
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        _log.error("model failed", error=type(error).__name__, at=[f"{f.name}:{f.lineno}" for f in frames])
        return Answer(
            None, versions, unavailable("model-failed", f"A model failed ({type(error).__name__}); it is logged.")
        )


def answer_many(
    ask: Callable[[list[Given]], Sequence[Told]], items: Sequence[Given], versions: Mapping[str, str]
) -> list[Answer[Told]]:
    """One answer an item, in order: all at once, or each by itself where one of them fails."""
    whole = answer_one(lambda: ask(list(items)), versions)
    if whole.error is None:
        return [Answer(value, versions) for value in whole.taken()]
    if len(items) == 1:
        return [Answer(None, versions, whole.error)]
    return [answer_one(lambda item=item: ask([item])[0], versions) for item in items]  # type: ignore[misc]
