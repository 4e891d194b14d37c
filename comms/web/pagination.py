"""Lists, a page at a time, by key: newest first, the cursor being the id of the last item given."""

from collections.abc import Sequence
from typing import Annotated, Final, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import Field

from models.contract.records import Record

MAX_UUID: Final = UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")  # before the newest: where a list begins


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


Item = TypeVar("Item")
Listed = TypeVar("Listed", bound=_Identified)

Cursor = Annotated[UUID | None, Query(description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Items a page.")]


class Page(Record, Generic[Item]):
    """`next` is the cursor of the page after this one, or null."""

    items: tuple[Item, ...] = Field(repr=False)
    next: UUID | None


def page_of(found: Sequence[Listed], limit: int) -> "Page[Listed]":
    """The page, from a query that asked for one item more than the limit to see whether there are more."""
    items = tuple(found[:limit])
    return Page(items=items, next=items[-1].id if len(found) > limit else None)
