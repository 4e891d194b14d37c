"""Webhook receivers on loopback that keep what they receive, and senders that send to them."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comms.app.application import create_app
from comms.delivery.webhooks.destinations import Resolver, SystemResolver
from comms.delivery.webhooks.dispatcher import RetryPolicy, WebhookSender
from comms.delivery.webhooks.transport import WebhookClient
from comms.kernel.database import Database
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests.comms import outbox_helpers
from tests.comms.http_server import served

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"),)
FAST_RETRIES: Final = RetryPolicy(attempts=4, first_pause_seconds=0.05, longest_pause_seconds=0.2, dead_in_a_row=2)
ROOT = Path(__file__).parent.parent.parent

Answer = Callable[["Message"], Awaitable[Response]]


@dataclass(frozen=True)
class Message:
    """A message that a receiver got."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def signed_with(self, secret: str) -> bool:
        """Whether one of its signatures is made with the secret, as the Standard Webhooks specification says."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        good = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return good in self.headers["webhook-signature"].split()


async def take(_: Message) -> Response:
    """Accepts every message."""
    return Response(status_code=204)


@dataclass
class Receiver:
    """An ASGI application. `answer` decides the response; `messages` contains all requests, also refused ones."""

    answer: Answer = take
    messages: list[Message] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        message = Message(dict(request.headers), await request.body())
        self.messages.append(message)
        await (await self.answer(message))(scope, receive, send)

    @property
    def versions(self) -> list[int]:
        """The versions of the events in order of arrival."""
        return [message.event["version"] for message in self.messages]


@asynccontextmanager
async def reaching_loopback(ctx: AppContext, databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that allows webhooks to loopback, with a relay."""
    allowing = create_app(ctx.settings.model_copy(update={"webhook_networks": LOOPBACK}))
    async with allowing.router.lifespan_context(allowing), outbox_helpers.relaying(databases):
        transport = httpx.ASGITransport(app=allowing, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
            yield opened


@asynccontextmanager
async def receiving(answer: Answer = take) -> AsyncIterator[Receiver]:
    """A receiver on its own port."""
    receiver = Receiver(answer)
    async with served(receiver) as address:
        receiver.url = f"http://{address}/hooks?of=care"
        yield receiver


@asynccontextmanager
async def sending(
    ctx: AppContext,
    databases: Databases,
    retry_policy: RetryPolicy = FAST_RETRIES,
    resolver: Resolver | None = None,
    networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = LOOPBACK,
    timeout_seconds: float = 60.0,
) -> AsyncIterator[None]:
    """A sender that runs until the block ends."""
    stopping = asyncio.Event()
    database = Database(databases.sender)
    await database.open()
    post = WebhookClient(resolver or SystemResolver(), networks, timeout_seconds)
    running = asyncio.create_task(WebhookSender(database, ctx.keys, post, retry_policy).run(databases.sender, stopping))
    try:
        yield
    finally:
        stopping.set()
        await running
        await database.close()


def start_sender(ctx: AppContext, databases: Databases, **settings: str) -> "subprocess.Popen[bytes]":
    """Starts a sender process as the launcher does."""
    wiring = {
        "WRITECARE_ROLE_DATABASE_URL": databases.sender, "WRITECARE_DATA_DIR": str(ctx.settings.data_dir),
        "WRITECARE_WEBHOOK_NETWORKS": '["127.0.0.0/8"]', "PATH": os.environ["PATH"], **settings,
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "comms.delivery.sender"], cwd=ROOT, env=wiring)
