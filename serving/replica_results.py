"""The result that a replica sends back: the answer and the model versions, or an error.

One invalid item of a batch must not cost the other items their answers. So an item's error is sent as a value, and
`unwrap` raises it in the caller's process.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

from models.contract.errors import WriteCareError, unavailable

Item = TypeVar("Item")
Value = TypeVar("Value")

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReplicaResult(Generic[Value]):
    """`value` and `versions` (capability -> version), or `error`. `repr` omits the value: it may be spoken words."""

    value: Value | None
    versions: Mapping[str, str]
    error: WriteCareError | None = None

    def __repr__(self) -> str:
        return f"Answer(versions={dict(self.versions)!r}, error={self.error!r})"

    def unwrap(self) -> Value:
        """Returns the value, or raises the item's error."""
        if self.error is not None:
            raise self.error
        assert self.value is not None, "an answer has a value or an error"
        return self.value


def capture_result(ask: Callable[[], Value], versions: Mapping[str, str]) -> ReplicaResult[Value]:
    """Calls `ask` and returns its value or its error as a result."""
    try:
        return ReplicaResult(ask(), versions)
    except WriteCareError as error:
        return ReplicaResult(None, versions, error)
    except Exception as error:
        # Neither Ray's logs nor ours may quote the data on which a library failed: type and code location are enough.
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        _log.error("model failed", error=type(error).__name__, at=[f"{f.name}:{f.lineno}" for f in frames])
        return ReplicaResult(
            None, versions, unavailable("model-failed", f"A model failed ({type(error).__name__}); it is logged.")
        )


def capture_results(
    ask: Callable[[list[Item]], Sequence[Value]], items: Sequence[Item], versions: Mapping[str, str]
) -> list[ReplicaResult[Value]]:
    """One result per item, in order. Tries all items in one call; if that fails, each item in a call of its own."""
    whole = capture_result(lambda: ask(list(items)), versions)
    if whole.error is None:
        return [ReplicaResult(value, versions) for value in whole.unwrap()]
    if len(items) == 1:
        return [ReplicaResult(None, versions, whole.error)]
    return [capture_result(lambda item=item: ask([item])[0], versions) for item in items]  # type: ignore[misc]
