"""One effect for an upload, however often it is sent: its body streams, so the route cannot see to it alone."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from fastapi import Response

from comms.kernel.database import Actor, Connection
from comms.web.idempotency.attempts import KeyedRequest

Made = TypeVar("Made")


class KeyedUpload(Generic[Made]):
    """Claimed first in each transaction of the upload, kept last in the one that stores what is `Made`."""

    def __init__(self, keyed_request: KeyedRequest | None, body: bytes, answer: Callable[[Made], Response]) -> None:
        """`body` is a digest of what was sent, `answer` what the route answers to it."""
        self._keyed_request = keyed_request
        self._body = body
        self._answer = answer

    async def claim(self, conn: Connection, actor: Actor) -> None:
        """Raises where this upload has been answered before, as `KeyedRequest.claim`; nothing without a key."""
        if self._keyed_request is not None:
            await self._keyed_request.claim(conn, actor, self._body)

    async def keep(self, made: Made) -> None:
        """Keeps the answer with what was made; nothing without a key."""
        if self._keyed_request is not None:
            await self._keyed_request.keep(self._answer(made))


UNKEYED_UPLOAD: Final[KeyedUpload[Any]] = KeyedUpload(None, b"", lambda _: Response())
