"""The HTTP application of the model API (`/api/ai/*`). It runs as Ray Serve's ingress on Serve's own port.

Clients call it through `comms`, which forwards, or directly. In both cases the ingress checks the token, and checks the
lawful basis after it has read the body and before a model gets any text. It uses the same endpoint table as `comms`
(`models/contract/endpoints.py`). The body is one request, or a batch `{"items": […]}`; in a batch each item has its
own error.
"""

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json
from ray import serve

from comms.ai.lawful_use import check_lawful_basis
from comms.ai.routes import router as declared
from comms.kernel.access.roles import refuse_unless
from comms.kernel.access.tokens import Verifier
from comms.kernel.database import Actor, Database
from comms.kernel.decoder_slots import DecoderPool
from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.web.credentials import authenticate, refuse_inactive
from comms.web.dependencies import bearer_of
from comms.web.middleware import RequestMiddleware
from comms.web.multipart_forms import FormLimits, UploadedFormFile, parse_form
from comms.web.problems import PROBLEM_RESPONSES, TYPE_PREFIX, install_problem_handlers, status_of
from models.contract import endpoints
from models.contract.endpoints import (
    ENDPOINTS,
    MOST_ITEMS,
    QUESTION_PATH,
    BatchResults,
    Endpoint,
    ItemError,
    LawfulBasisRef,
    Problem,
    SearchQuestion,
    SearchVector,
    TranscribeRequest,
)
from models.contract.errors import WriteCareError, invalid, unavailable
from models.contract.records import Record
from pipelines.track_transcription import decode_call
from serving import endpoint_handlers
from serving.placement import DEPLOYMENTS, INGRESS
from serving.served_models import ServedModels, deployment_handles

RequestModel = TypeVar("RequestModel", bound=Record)

# items of one batch that the models process at a time, so that a large batch does not delay other callers
_CONCURRENT_ITEMS: Final = 16
_CONNECTIONS: Final = 4
_UPLOAD_FORM: Final = FormLimits(
    files=frozenset({"audio", "items"}), fields=frozenset(TranscribeRequest.model_fields), most=MOST_ITEMS
)


@dataclass(frozen=True)
class IngressState:
    """Open resources of the ingress replica: database pool, token verifier, deployment handles, decoders."""

    settings: Settings
    database: Database
    verifier: Verifier
    handles: dict[str, Any]
    decoders: DecoderPool


def build_app() -> FastAPI:
    """Builds the ASGI application. Ray calls this in the ingress replica; the launcher has set its environment."""
    settings = Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.role_database_url is None:
            raise unavailable(
                "database-unnamed", "WRITECARE_ROLE_DATABASE_URL is not set: set it to the database URL of wcc_app."
            )
        database = Database(settings.role_database_url.get_secret_value(), most=_CONNECTIONS)
        await database.open()
        verifier = Verifier.open(settings.data_dir / "keys", settings.issuer)
        handles = deployment_handles(DEPLOYMENTS)
        decoders = DecoderPool(settings.recording_decoders, settings.decoder_wait_seconds)
        app.state.ingress_state = IngressState(settings, database, verifier, handles, decoders)
        try:
            yield
        finally:
            decoders.close()
            await database.close()

    app = FastAPI(
        title="WriteCareConnect models", version="0.1.0", lifespan=lifespan, redoc_url=None, docs_url=None,
        redirect_slashes=False,
        description="The model endpoints. Sign in with `Authorization: Bearer <token>`; name a lawful basis.",
    )  # fmt: skip
    install_problem_handlers(app)
    described = {route.name: route for route in declared.routes if isinstance(route, APIRoute)}
    for endpoint in ENDPOINTS:
        app.add_api_route(
            f"/api/ai/{endpoint.call}", _endpoint_handler(endpoint), methods=["POST"], name=endpoint.call,
            summary=endpoint.title, response_model=None,
            responses={**PROBLEM_RESPONSES, **described[endpoint.call].responses},
            openapi_extra=described[endpoint.call].openapi_extra,
        )  # fmt: skip
    app.add_api_route(QUESTION_PATH, _embed_question, methods=["POST"], include_in_schema=False)
    app.add_api_route("/healthz", _healthz, methods=["GET"])
    app.add_middleware(
        RequestMiddleware, settings=settings, metrics=Metrics(),
        uploads={"/api/ai/transcribe": settings.max_upload_bytes},
    )  # fmt: skip
    return app


MODEL_API: Final = serve.deployment(name=INGRESS, max_ongoing_requests=256)(serve.ingress(build_app)())


async def _healthz() -> dict[str, str]:
    """Liveness check. It does not check the models: a call to an unavailable model answers 503."""
    return {"status": "ok"}


def _endpoint_handler(endpoint: Endpoint) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> Any:
        ingress_state: IngressState = request.app.state.ingress_state
        actor = await authenticate(
            ingress_state.database, ingress_state.verifier, bearer_of(request.headers.get("authorization"))
        )
        refuse_unless(actor, "models.use")
        async with ingress_state.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
        if endpoint.call == "transcribe":
            return await _transcribe(ingress_state, actor, request, endpoint)
        body = await _json(request)
        if not endpoints.is_batch(body):
            return await _answer_item(ingress_state, actor, endpoint, body)
        try:
            items = endpoints.submitted_items(body)
        except ValueError as error:
            raise invalid("batch-invalid", f"The batch cannot be read: {error}.") from None
        return await _answer_batch([partial(_answer_item, ingress_state, actor, endpoint, item) for item in items])

    return answer


async def _embed_question(request: Request) -> SearchVector:
    """Embeds a search text. The caller must be allowed to search. The text is neither stored nor logged."""
    ingress_state: IngressState = request.app.state.ingress_state
    actor = await authenticate(
        ingress_state.database, ingress_state.verifier, bearer_of(request.headers.get("authorization"))
    )
    refuse_unless(actor, "messages.read")
    async with ingress_state.database.acting_as(actor) as conn:
        await refuse_inactive(conn, actor)
    question = _validated(SearchQuestion, await _json(request))
    models = ServedModels(ingress_state.handles)
    (row,) = await models.embed([question.text])
    return SearchVector(vector=tuple(row.tolist()), model=models.versions["embedding"])


async def _answer_item(ingress_state: IngressState, actor: Actor, endpoint: Endpoint, body: Any) -> Record:
    """Answers one item: validates it, checks its lawful basis, calls the models."""
    request = _validated(endpoint.request, body)
    await _check_lawful_basis(ingress_state, actor, request, endpoint)
    record: Record = await endpoint_handlers.HANDLERS[endpoint.call](ServedModels(ingress_state.handles), request)
    return record


async def _check_lawful_basis(
    ingress_state: IngressState, actor: Actor, basis_ref: LawfulBasisRef, endpoint: Endpoint
) -> None:
    async with ingress_state.database.acting_as(actor) as conn:
        await check_lawful_basis(conn, actor, basis_ref, endpoint.call)


async def _transcribe(ingress_state: IngressState, actor: Actor, request: Request, endpoint: Endpoint) -> Any:
    """Answers a multipart request: `audio` parts are the tracks of one call, `items` parts are separate calls."""
    async with parse_form(request, ingress_state.settings.data_dir, _UPLOAD_FORM) as form:
        options = _validated(TranscribeRequest, dict(form.fields))
        tracks = [sent for sent in form.files if sent.name == "audio"]
        items = [sent for sent in form.files if sent.name == "items"]
        if bool(tracks) == bool(items):
            raise invalid("audio-parts", f"Send `audio` (the tracks of one call) or `items` (1 to {MOST_ITEMS} calls).")
        await _check_lawful_basis(ingress_state, actor, options, endpoint)
        decode_lock = (
            asyncio.Lock()
        )  # files of one request are decoded one at a time, so that one request cannot occupy all decoders
        if tracks:
            return await _transcribe_upload(ingress_state, actor, options, tracks, decode_lock)
        return await _answer_batch(
            [partial(_transcribe_upload, ingress_state, actor, options, [item], decode_lock) for item in items]
        )


async def _transcribe_upload(
    ingress_state: IngressState,
    actor: Actor,
    options: TranscribeRequest,
    parts: Sequence[UploadedFormFile],
    decode_lock: asyncio.Lock,
) -> Record:
    work = partial(
        decode_call, [part.file for part in parts], max_seconds=ingress_state.settings.max_recording_seconds,
        channels=options.channels, allow_unconfined=ingress_state.settings.allow_unconfined_decoding,
    )  # fmt: skip
    async with decode_lock:
        files = await ingress_state.decoders.run(actor.tenant_id, work)
    source = "+".join(part.filename or "audio" for part in parts)
    return await endpoint_handlers.transcribe(
        ServedModels(ingress_state.handles), files, source=source, speakers=options.speakers, language=options.language
    )


async def _answer_batch(asked: Sequence[Callable[[], Awaitable[Record]]]) -> BatchResults[Any]:
    """The answers in order. The error of an item takes the position of its answer."""
    room = asyncio.Semaphore(_CONCURRENT_ITEMS)

    async def one(ask: Callable[[], Awaitable[Record]]) -> Record:
        async with room:
            try:
                return await ask()
            except WriteCareError as error:
                return _item_error(status_of(error), error.slug, error.detail)
            except RequestValidationError as error:
                places = ["/".join(str(part)[:64] for part in found["loc"]) for found in error.errors()[:5]]
                return _item_error(422, "request-invalid", f"This item is not valid at: {', '.join(places)}.")

    results = await asyncio.gather(*(one(ask) for ask in asked))
    return BatchResults[Any].model_construct(results=tuple(results))


def _item_error(status: int, slug: str, detail: str) -> ItemError:
    title = HTTPStatus(status).phrase
    return ItemError(error=Problem(type=TYPE_PREFIX + slug, title=title, status=status, detail=detail))


def _validated(shape: type[RequestModel], body: Any) -> RequestModel:
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None


async def _json(request: Request) -> Any:
    try:
        return from_json((await request.body()).removeprefix(BOM_UTF8))
    except ValueError:  # no JSON, no UTF-8, a lone surrogate, a number of thousands of digits, nesting too deep
        raise invalid("request-invalid", "The body is not JSON; /docs describes the shapes.") from None
