"""Idempotency for uploads: their body streams, so the upload code, not the route class, claims the key."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from fastapi import Response

from comms.kernel.database import Actor, Connection
from comms.web.idempotency.attempts import KeyedRequest

Made = TypeVar("Made")


class KeyedUpload(Generic[Made]):
    """`claim` it first in each transaction of the upload; `keep` it last in the one that stores the `Made` record."""

    def __init__(self, keyed_request: KeyedRequest | None, body: bytes, answer: Callable[[Made], Response]) -> None:
        """`body` is a digest of the upload; `answer` makes the answer of the route."""
        self._keyed_request = keyed_request
        self._body = body
        self._answer = answer

    async def claim(self, conn: Connection, actor: Actor) -> None:
        """Raises if this upload was answered before, as `KeyedRequest.claim`; does nothing without a key."""
        if self._keyed_request is not None:
            await self._keyed_request.claim(conn, actor, self._body)

    async def keep(self, made: Made) -> None:
        """Stores the answer for the new record; does nothing without a key."""
        if self._keyed_request is not None:
            await self._keyed_request.keep(self._answer(made))


UNKEYED_UPLOAD: Final[KeyedUpload[Any]] = KeyedUpload(None, b"", lambda _: Response())
