"""The application: every room's routes behind one door, opened for one set of settings.

Rooms are listed in `ROUTERS`; a new one adds its line there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

from comms.accounts.routes import router as accounts
from comms.ai.forwarding import open_model_door
from comms.ai.routes import router as models
from comms.alerts.routes import router as alerts
from comms.attachments.routes import router as attachments
from comms.attachments.sweep import sweep_attachments_for_ever
from comms.audit.routes import router as acts
from comms.break_glass.routes import router as break_glass
from comms.consent.routes import router as consent
from comms.conversations.routes import router as conversations
from comms.doorway import Doorway
from comms.events.feed import open_feed
from comms.events.routes import router as live_events
from comms.forms import FORM_BYTES
from comms.front.accounts import router as account_pages
from comms.front.routes import router as front
from comms.guests.routes import entrance
from comms.guests.routes import router as guests
from comms.health.routes import router as health
from comms.homes.routes import router as homes
from comms.house import open_house
from comms.idempotency.sweep import forget_for_ever
from comms.identity.routes import router as identity
from comms.limits.addresses import ClientAddresses
from comms.messages.routes import router as messages
from comms.metrics import Metrics
from comms.openapi import DESCRIPTION, describe, operation_id
from comms.problems import PROBLEM_RESPONSES, answer_with_problems
from comms.recordings.routes import router as recordings
from comms.recordings.sweep import sweep_for_ever
from comms.retention.routes import router as retention
from comms.service_accounts.routes import router as service_accounts
from comms.sessions.routes import router as sessions
from comms.settings import Settings
from comms.sign_ins.pauses import forget_paid_for_ever
from comms.sign_ins.routes import router as sign_ins
from comms.single_sign_on.provider import open_provider
from comms.single_sign_on.routes import router as single_sign_on
from comms.tasks import end
from comms.tenants.routes import router as tenants
from comms.timings.routes import router as timings
from comms.users.routes import router as people
from comms.webhooks.routes import router as webhooks
from comms.webhooks.routes import secrets_router as webhook_secrets
from models import audio

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
            app.state.confinement = await asyncio.to_thread(audio.confinement)  # the kernel's: asked once
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
