"""Shared helpers for messaging tests: conversations and messages over HTTP."""

from typing import Any

import httpx

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories


class MessagingClient:
    """The people of a home and the API, with short methods for what they do."""

    def __init__(self, client: httpx.AsyncClient, ctx: AppContext) -> None:
        self._client = client
        self._ctx = ctx

    async def ask(self, actor: Actor, method: str, path: str, **options: Any) -> httpx.Response:
        headers = factories.bearer(self._ctx, actor) | options.pop("headers", {})
        return await self._client.request(method, path, headers=headers, **options)

    async def person(self, beside: Actor, role: str = "care_worker") -> Actor:
        return await factories.make_user(self._ctx, beside.tenant_id, role)

    async def begin(self, actor: Actor, *members: Actor, kind: str = "group", **fields: Any) -> str:
        """Makes a conversation and returns its path."""
        body = {"conversation_type": kind, "members": [str(member.user_id) for member in members]} | fields
        made = await self.ask(actor, "POST", "/api/conversations", json=body)
        assert made.status_code in (200, 201), made.text
        return made.headers["location"]

    async def say(self, actor: Actor, conversation: str, content: str, **fields: Any) -> dict[str, Any]:
        """Sends a message and returns it."""
        body = {"conversation_id": conversation.rpartition("/")[2], "content": content} | fields
        sent = await self.ask(actor, "POST", "/api/messages", json=body)
        assert sent.status_code == 201, sent.text
        message: dict[str, Any] = sent.json()
        return message

    async def read(self, actor: Actor, conversation: str) -> list[str | None]:
        """The texts of users' messages that the actor sees in the conversation, oldest first."""
        answer = await self.ask(actor, "GET", f"/api/messages/conversations/{conversation.rpartition('/')[2]}")
        assert answer.status_code == 200, answer.text
        said = [message for message in answer.json()["items"] if message["sender_type"] != "system"]
        return [message["content"] for message in reversed(said)]

    async def find(self, actor: Actor, words: str, **params: str) -> list[dict[str, Any]]:
        """The results of the actor's search."""
        answer = await self.ask(actor, "GET", "/api/messages/search", params={"q": words} | params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


def status_and_slug(answer: httpx.Response) -> tuple[int, str]:
    """The status and the slug of a problem."""
    return answer.status_code, answer.json()["type"].rpartition("/")[2]
