"""Builds the FastAPI application from all routers and one set of settings.

A new router needs a line in `ROUTERS`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

from comms.ai.model_client import open_model_client
from comms.ai.routes import router as models
from comms.app.health.routes import router as health
from comms.app.pages.account_forms import router as account_pages
from comms.app.pages.routes import router as front
from comms.calls.guests.routes import public_router
from comms.calls.guests.routes import router as guests
from comms.calls.recordings.routes import router as recordings
from comms.calls.recordings.sweep import sweep_forever
from comms.calls.sessions.routes import router as sessions
from comms.calls.stage_timings.routes import router as timings
from comms.delivery.webhooks.routes import router as webhooks
from comms.delivery.webhooks.routes import secrets_router as webhook_secrets
from comms.governance.audit.routes import router as acts
from comms.governance.break_glass.routes import router as break_glass
from comms.governance.consent.routes import router as consent
from comms.governance.retention.routes import router as retention
from comms.identity.accounts.routes import router as accounts
from comms.identity.authentication.routes import router as sign_ins
from comms.identity.authentication.throttling import delete_expired_counts_forever
from comms.identity.current_user import router as identity
from comms.identity.homes.routes import router as homes
from comms.identity.service_accounts.routes import router as service_accounts
from comms.identity.single_sign_on.oidc_client import open_provider
from comms.identity.single_sign_on.routes import router as single_sign_on
from comms.identity.tenants.routes import router as tenants
from comms.identity.users.routes import router as people
from comms.kernel.metrics import Metrics
from comms.kernel.processes.background_tasks import end
from comms.kernel.settings import Settings
from comms.live.fan_out import open_fan_out
from comms.live.routes import router as live_events
from comms.messaging.attachments.routes import router as attachments
from comms.messaging.attachments.sweep import sweep_attachments_forever
from comms.messaging.conversations.routes import router as conversations
from comms.messaging.messages.routes import router as messages
from comms.messaging.socket.routes import router as messaging_events
from comms.safeguarding.alerts.routes import router as alerts
from comms.web.context import open_app_context
from comms.web.idempotency.sweep import delete_expired_answers_forever
from comms.web.middleware import RequestMiddleware
from comms.web.multipart_forms import FORM_BYTES
from comms.web.openapi import DESCRIPTION, install_openapi, operation_id
from comms.web.problems import PROBLEM_RESPONSES, install_problem_handlers
from comms.web.rate_limits.client_addresses import ClientAddresses
from models.audio import decoder

# All routers of the API. FastAPI tries them in this order, and a request to the last takes 0.1 ms longer than one to
# the first: so the routers that are used most come first.
ROUTERS: Final[tuple[APIRouter, ...]] = (
    attachments,  # before `messages`: its paths would match `/api/messages/{message_id}`
    messages,
    conversations,
    identity,
    sign_ins,
    single_sign_on,
    accounts,
    service_accounts,
    tenants,
    homes,
    people,
    sessions,
    guests,
    public_router,
    consent,
    recordings,
    timings,
    alerts,
    break_glass,
    retention,
    acts,
    live_events,
    messaging_events,
    webhooks,
    webhook_secrets,
    models,
)  # fmt: skip


def create_app(settings: Settings) -> FastAPI:
    """Builds the application for these settings. It opens connections only when its lifespan starts."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_app_context(settings, metrics) as ctx,
            open_fan_out(ctx) as fan_out,
            open_model_client(settings.serve_url) as model_client,
            open_provider(settings) as provider,
        ):
            app.state.provider = provider
            app.state.ctx, app.state.fan_out, app.state.models = ctx, fan_out, model_client
            # the kernel does not change: asked once
            app.state.confinement = await asyncio.to_thread(decoder.confinement)
            sweeping = {
                asyncio.create_task(sweep_forever(ctx)),
                asyncio.create_task(sweep_attachments_forever(ctx)),
                asyncio.create_task(delete_expired_answers_forever(ctx.database)),
                asyncio.create_task(delete_expired_counts_forever(ctx.database)),
            }
            yield
            await end(sweeping)

    app = FastAPI(
        title="WriteCareConnect", version="0.1.0", description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False, generate_unique_id_function=operation_id,
    )  # fmt: skip
    install_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router, responses=PROBLEM_RESPONSES)
    app.include_router(health)
    app.include_router(front)
    app.include_router(account_pages)
    install_openapi(app)
    uploads = {
        "/api/recordings": settings.max_upload_bytes,
        "/api/ai/transcribe": settings.max_upload_bytes,
        "/api/messages/attachments": settings.max_attachment_bytes + FORM_BYTES,
    }
    app.add_middleware(RequestMiddleware, settings=settings, metrics=metrics, uploads=uploads)
    app.add_middleware(ClientAddresses, proxies=settings.trusted_proxies, header=settings.proxy_header)
    return app
