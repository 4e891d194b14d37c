"""Fixtures for tests of message assessment: a home's conversation, a lead outside it, and the worker's models."""

from typing import Any
from uuid import UUID

import psycopg

from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from pipelines.message_assessment import assess_messages
from pipelines.message_explanation import explain_messages
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient
from tests.factories import rows
from tests.fakes import ScriptedModels


class MessagingScenario:
    """A carer, a manager and a resident in one conversation, a lead who is not in it, and the worker's models."""

    def __init__(self, talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases) -> None:
        self.talk = talk
        self._ctx = ctx
        self.worker_ctx = worker_ctx
        self._databases = databases
        self.models = ScriptedModels()

    async def set_up(self) -> None:
        self.manager = await factories.make_actor(self._ctx, "care_manager")
        self.carer = await self.talk.person(self.manager)
        self.resident = await self.talk.person(self.manager, "resident")
        self.lead = await self.talk.person(self.manager, "safeguarding_lead")
        await factories.put_all_in_force(self._ctx, self.manager)
        for person in (self.manager, self.carer, self.resident):
            await factories.grant(self._ctx, self.manager, person)
        self.conversation = await self.talk.begin(self.manager, self.carer, self.resident)

    @property
    def tenant_id(self) -> UUID:
        return self.manager.tenant_id

    async def say(self, actor: Actor, content: str) -> dict[str, Any]:
        return await self.talk.say(actor, self.conversation, content)

    async def edit(self, actor: Actor, message: dict[str, Any], content: str) -> None:
        address = f"/api/messages/{message['id']}"
        headers = {"If-Match": '"1"'}
        answer = await self.talk.ask(actor, "PUT", address, json={"content": content}, headers=headers)
        assert answer.status_code == 200, answer.text

    async def read(self, models: ScriptedModels | None = None) -> ScriptedModels:
        used = models or self.models
        while await assess_messages(self.worker_ctx, lambda: used, self.tenant_id):
            pass
        return used

    async def explain(self, models: ScriptedModels | None = None) -> ScriptedModels:
        used = models or self.models
        while await explain_messages(self.worker_ctx, used, self.tenant_id):
            pass
        return used

    async def query(self, statement: str, *values: Any, actor: Actor | None = None) -> list[dict[str, Any]]:
        return await rows(self._ctx, actor or self.lead, statement, *values)

    async def readings(self) -> list[tuple[str, int]]:
        found = await self.query(
            "select message_id, version from message_readings where not again order by message_id, version"
        )
        return [(str(row["message_id"]), row["version"]) for row in found]

    async def events(self, kind: str = "safeguarding.alert") -> list[dict[str, Any]]:
        found = await self.query("select data from events where type = %s order by id", kind)
        return [row["data"] for row in found]

    def with_vectors(self) -> list[str]:
        """The messages that have a vector."""
        with psycopg.connect(self._databases.administrator) as conn:
            found = conn.execute("select message_id::text from message_vectors where tenant_id = %s", (self.tenant_id,))
            return [message_id for (message_id,) in found.fetchall()]

    def waiting(self) -> list[tuple[Any, ...]]:
        """The messages that wait for their assessment, and the reason for waiting."""
        with psycopg.connect(self._databases.administrator) as conn:
            return conn.execute(
                "select message_id::text, version, waits_for from message_readings_due where tenant_id = %s "
                "order by message_id, version",
                (self.tenant_id,),
            ).fetchall()

    def expire_waits(self) -> None:
        """Makes claimed messages due again, as if their worker had not stored a result."""
        with psycopg.connect(self._databases.administrator) as conn:
            conn.execute(
                "update alert_evidence set spans_due_at = now() where tenant_id = %s and spans_due_at is not null",
                (self.tenant_id,),
            )
            conn.execute(
                "update message_readings_due set due_at = now() where tenant_id = %s and waits_for is null",
                (self.tenant_id,),
            )

    async def withdraw(self, person: Actor) -> None:
        await factories.withdraw(self._ctx, self.manager, person, "analyse")

    async def grant(self, person: Actor) -> None:
        await factories.grant(self._ctx, self.manager, person, "analyse")
