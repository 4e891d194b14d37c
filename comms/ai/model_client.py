"""The client of the model endpoints: streams a request to Ray Serve and its response back.

Neither body is read into memory here. The bearer token is forwarded, and Ray Serve checks it again. It also checks the
lawful basis (`comms.ai.lawful_use`), because it reads the body.
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
_QUESTION_SECONDS: Final = 0.3  # after this, the search uses only the words
_ANSWER_SECONDS: Final = 3600.0  # the longest recording on a small machine

_log = structlog.get_logger(__name__)


class _ForwardedResponse(StreamingResponse):
    """Streams the models' response. Closes the connection to them at the end, also if the caller disconnects early."""

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
    """The client of the model endpoints; `open_model_client` creates it."""

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._client = client

    async def forward(self, request: Request) -> StreamingResponse:
        """Returns the streamed response of the model endpoints; raises `unavailable` if they cannot answer now."""
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
            # the answer is from the proxy, not from the models: they are starting or have stopped
            await answer.aclose()
            raise _models_unavailable()
        return _ForwardedResponse(answer)

    async def embed_question(self, question: SearchQuestion, authorization: str) -> SearchVector | None:
        """Returns the embedding of a search text, or None if the models do not answer at once."""
        if self._client is None:
            return None
        try:
            async with asyncio.timeout(_QUESTION_SECONDS):
                answer = await self._client.post(
                    QUESTION_PATH, json=question.model_dump(), headers={"Authorization": authorization}
                )
            return SearchVector.model_validate_json(answer.raise_for_status().content)
        except (TimeoutError, httpx.HTTPError, ValidationError) as error:
            _log.warning("search without an embedding", error=type(error).__name__)
            return None


@asynccontextmanager
async def open_model_client(serve_url: str | None) -> AsyncIterator[ModelClient]:
    """Opens a client of the model endpoints until the block ends. Without an address, the models count as
    unavailable."""
    if serve_url is None:
        yield ModelClient(None)
        return
    timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS)
    # trust_env: residents' words must never pass through a proxy that the environment names
    async with httpx.AsyncClient(base_url=serve_url, timeout=timeout, trust_env=False) as client:
        yield ModelClient(client)


def _models_unavailable() -> WriteCareError:
    return unavailable("models-unavailable", "The models are not available now: try again shortly.")


def model_client_of(connection: HTTPConnection) -> ModelClient:
    """Returns the model client that the process opened at its start."""
    model_client: ModelClient = connection.app.state.models
    return model_client
