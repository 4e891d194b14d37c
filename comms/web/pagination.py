"""Lists in pages: newest first; the cursor is the id of the last item of a page."""

from collections.abc import Sequence
from typing import Annotated, Final, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import Field

from models.contract.records import Record

MAX_UUID: Final = UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")  # before the newest item: the cursor of the first page


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


Item = TypeVar("Item")
Listed = TypeVar("Listed", bound=_Identified)

Cursor = Annotated[UUID | None, Query(description="`next` of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Items per page.")]


class Page(Record, Generic[Item]):
    """`next` is the cursor of the next page, or null."""

    items: tuple[Item, ...] = Field(repr=False)
    next: UUID | None


def page_of(found: Sequence[Listed], limit: int) -> "Page[Listed]":
    """Makes the page; the query asked for one item more than the limit, to see whether there are more."""
    items = tuple(found[:limit])
    return Page(items=items, next=items[-1].id if len(found) > limit else None)
