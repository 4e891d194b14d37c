"""Forwarding to the model endpoints: a request goes on as it comes in, an answer comes back as it is made.

Neither body is read into memory here. The bearer token goes along, so that Ray Serve checks it again at its own
door; the lawful ground is checked there too (`comms.ai.lawful_use`), where the body is read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
import structlog
from fastapi import Request
from pydantic import ValidationError
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from models.contract.endpoints import QUESTION_PATH, SearchQuestion, SearchVector
from models.contract.errors import WriteCareError, unavailable

_REQUEST_HEADERS: Final = ("authorization", "content-type", "content-length", "accept")
_RESPONSE_HEADERS: Final = ("content-type", "content-length", "content-encoding", "retry-after", "www-authenticate")
_CONNECT_SECONDS: Final = 3.0
_QUESTION_SECONDS: Final = 0.3  # a search that waits longer for meaning is better answered by words
_ANSWER_SECONDS: Final = 3600.0  # the longest recording on a small machine

_log = structlog.get_logger(__name__)


class _ForwardedResponse(StreamingResponse):
    """The models' answer on its way; the connection to them ends with it, also where the caller goes away early."""

    def __init__(self, answer: httpx.Response) -> None:
        headers = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
        super().__init__(answer.aiter_raw(), answer.status_code, headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


class ModelClient:
    """The model endpoints as this process reaches them; made by `open_model_client`."""

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._client = client

    async def forward(self, request: Request) -> StreamingResponse:
        """The model endpoints' answer, streamed; raises `unavailable` where nobody there can answer now."""
        if self._client is None:
            raise _models_unavailable()
        headers = {name: value for name in _REQUEST_HEADERS if (value := request.headers.get(name)) is not None}
        headers["X-Request-ID"] = request.state.request_id
        upstream_request = self._client.build_request(
            request.method, request.scope["path"], params=str(request.query_params), headers=headers,
            content=request.stream(),
        )  # fmt: skip
        try:
            answer = await self._client.send(upstream_request, stream=True)
        except httpx.TransportError:
            raise _models_unavailable() from None
        if answer.status_code >= 400 and "json" not in answer.headers.get("content-type", ""):
            # not the models' answer but their proxy's: they are starting, or gone
            await answer.aclose()
            raise _models_unavailable()
        return _ForwardedResponse(answer)

    async def embed_question(self, question: SearchQuestion, authorization: str) -> SearchVector | None:
        """Where the meaning of what somebody looks for lies; None where the models do not say at once."""
        if self._client is None:
            return None
        try:
            async with asyncio.timeout(_QUESTION_SECONDS):
                answer = await self._client.post(
                    QUESTION_PATH, json=question.model_dump(), headers={"Authorization": authorization}
                )
            return SearchVector.model_validate_json(answer.raise_for_status().content)
        except (TimeoutError, httpx.HTTPError, ValidationError) as error:
            _log.warning("a search goes without meaning", error=type(error).__name__)
            return None


@asynccontextmanager
async def open_model_client(serve_url: str | None) -> AsyncIterator[ModelClient]:
    """A door to the model endpoints until the block ends; without an address it answers that they are down."""
    if serve_url is None:
        yield ModelClient(None)
        return
    timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS)
    # trust_env: residents' words must never take a detour over a proxy that the environment happens to name
    async with httpx.AsyncClient(base_url=serve_url, timeout=timeout, trust_env=False) as client:
        yield ModelClient(client)


def _models_unavailable() -> WriteCareError:
    return unavailable("models-unavailable", "The models cannot answer just now: try again shortly.")


def model_client_of(connection: HTTPConnection) -> ModelClient:
    """The door to the models that the process opened at its start."""
    model_client: ModelClient = connection.app.state.models
    return model_client
