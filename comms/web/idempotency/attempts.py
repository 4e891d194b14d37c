"""Idempotency of POST requests: one effect per `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).

The route's handler stores a `KeyedRequest` in the request's state. The request's transaction
(comms/web/dependencies.py) claims the key before the route's function runs. The finished answer is stored before that
transaction commits. A repeat gets the stored answer, after the same checks of token, account and permission, and only
while the caller can still see everything that the answer and its request name.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from starlette.requests import HTTPConnection

from comms.kernel.database import Actor, Connection
from comms.web.idempotency.stored_answers import KeptAnswer, KeyClaim, claim_key, ids_in, keep_answer
from models.contract.errors import invalid

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_KEPT_HEADERS: Final = ("content-type", "location", "etag")
_LONGEST_KEY: Final = 255

PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "A text of your choice, new for each request, e.g. a UUID. A request that is repeated within a day with the "
        f"same key and body has no second effect: it gets the first answer, with `{REPLAYED}: true`."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY, "pattern": "^[!-~]+$"},
    "example": "7c6f1f5e-6a0c-4f0e-9f0b-2f4f5f1f7c11",
}


class ReplayAnswer(Exception):
    """Raised instead of a second run; carries the first answer to the route's handler."""

    def __init__(self, answer: KeptAnswer) -> None:
        super().__init__("this request has been answered before")
        self.answer = answer


class KeyedRequest:
    """A request with an Idempotency-Key, from its arrival until its answer is stored."""

    def __init__(self, key: str, address: bytes) -> None:
        self._key = key
        self._address = address
        self._claimed: tuple[Connection, Actor, bytes, KeyClaim] | None = None
        self.kept = False

    async def claim(self, conn: Connection, actor: Actor, body: bytes) -> None:
        """Claims the key in this transaction; `body` is the request's body or a digest of it.

        Raises `ReplayAnswer`, and as `claim_key`.
        """
        request_hash = hashlib.sha256(self._address + body).digest()
        named = ids_in(self._address.decode(errors="replace"), body.decode(errors="replace"))
        before = await claim_key(conn, actor, self._key, request_hash, named)
        if isinstance(before, KeptAnswer):
            raise ReplayAnswer(before)
        self._claimed = (conn, actor, request_hash, before)

    async def keep(self, response: Response) -> None:
        """Stores the answer in the transaction that claimed the key last: the one that makes the change."""
        assert self._claimed is not None, "the route has no transaction for its request, so it cannot use a key"
        conn, actor, request_hash, claim = self._claimed
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        answer = KeptAnswer(
            status=response.status_code, headers=headers, body=bytes(response.body), refers_to=claim.refers_to
        )
        await keep_answer(conn, actor, self._key, request_hash, answer)
        self.kept = True


def keyed_request_of(connection: HTTPConnection) -> KeyedRequest | None:
    """The `KeyedRequest` in the request's state; None without a key."""
    found: KeyedRequest | None = getattr(connection.state, "keyed_request", None)
    return found


def with_idempotency_key(answer: Handler) -> Handler:
    """Wraps a route's handler so that it respects a request's key; raises `invalid` (`idempotency-key-invalid`)."""

    async def handle_keyed(request: Request) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return await answer(request)
        request.state.keyed_request = keyed_request = KeyedRequest(_validated_key(key), _address(request))
        try:
            response = await answer(request)
        except ReplayAnswer as before:
            return _replayed(before.answer)
        # a failed request is rolled back, and may be repeated with its key
        if response.status_code < 300 and not keyed_request.kept:
            await keyed_request.keep(response)
        return response

    return handle_keyed


def _validated_key(key: str) -> str:
    # the draft's form is a quoted string; most clients send it without quotes, and a key may consist of quotes only
    bare = key.strip().strip('"') or key.strip()
    if not (0 < len(bare) <= _LONGEST_KEY and all("!" <= letter <= "~" for letter in bare)):
        raise invalid(
            "idempotency-key-invalid", f"Send a key of 1 to {_LONGEST_KEY} visible ASCII characters, e.g. a UUID."
        )
    return bare


def _address(request: Request) -> bytes:
    # not request.url: it contains the Host header, which the caller controls
    return f"{request.method} {request.scope['path']}?".encode() + request.scope["query_string"] + b"\n"


def _replayed(answer: KeptAnswer) -> Response:
    return Response(answer.body, answer.status, headers={**answer.headers, REPLAYED: "true"})
