"""The application: every room's routes behind one door, opened for one set of settings.

Rooms are listed in `ROUTERS`; a new one adds its line there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

from comms.ai.model_client import open_model_door
from comms.ai.routes import router as models
from comms.app.health.routes import router as health
from comms.app.pages.account_forms import router as account_pages
from comms.app.pages.routes import router as front
from comms.calls.guests.routes import entrance
from comms.calls.guests.routes import router as guests
from comms.calls.recordings.routes import router as recordings
from comms.calls.recordings.sweep import sweep_for_ever
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
from comms.identity.authentication.throttling import forget_paid_for_ever
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
from comms.live.fan_out import open_feed
from comms.live.routes import router as live_events
from comms.messaging.attachments.routes import router as attachments
from comms.messaging.attachments.sweep import sweep_attachments_for_ever
from comms.messaging.conversations.routes import router as conversations
from comms.messaging.messages.routes import router as messages
from comms.messaging.socket.routes import router as messaging_events
from comms.safeguarding.alerts.routes import router as alerts
from comms.web.context import open_house
from comms.web.idempotency.sweep import forget_for_ever
from comms.web.middleware import Doorway
from comms.web.multipart_forms import FORM_BYTES
from comms.web.openapi import DESCRIPTION, describe, operation_id
from comms.web.problems import PROBLEM_RESPONSES, answer_with_problems
from comms.web.rate_limits.client_addresses import ClientAddresses
from models.audio import decoder

# Every room of the house that answers HTTP or WebSockets. A request is looked for in this order, which costs a tenth of
# a millisecond from the first to the last: what is asked most comes first.
ROUTERS: Final[tuple[APIRouter, ...]] = (
    attachments,  # before messages: its addresses would be taken for a message's
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
    entrance,
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
    """The application for these settings; nothing is opened before its lifespan begins."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_house(settings, metrics) as house,
            open_feed(house) as feed,
            open_model_door(settings.serve_url) as door,
            open_provider(settings) as provider,
        ):
            app.state.provider = provider
            app.state.house, app.state.feed, app.state.models = house, feed, door
            app.state.confinement = await asyncio.to_thread(decoder.confinement)  # the kernel's: asked once
            sweeping = {
                asyncio.create_task(sweep_for_ever(house)),
                asyncio.create_task(sweep_attachments_for_ever(house)),
                asyncio.create_task(forget_for_ever(house.database)),
                asyncio.create_task(forget_paid_for_ever(house.database)),
            }
            yield
            await end(sweeping)

    app = FastAPI(
        title="WriteCareConnect", version="0.1.0", description=DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False, generate_unique_id_function=operation_id,
    )  # fmt: skip
    answer_with_problems(app)
    for router in ROUTERS:
        app.include_router(router, responses=PROBLEM_RESPONSES)
    app.include_router(health)
    app.include_router(front)
    app.include_router(account_pages)
    describe(app)
    uploads = {
        "/api/recordings": settings.max_upload_bytes,
        "/api/ai/transcribe": settings.max_upload_bytes,
        "/api/messages/attachments": settings.max_attachment_bytes + FORM_BYTES,
    }
    app.add_middleware(Doorway, settings=settings, metrics=metrics, uploads=uploads)
    app.add_middleware(ClientAddresses, proxies=settings.trusted_proxies, header=settings.proxy_header)
    return app
