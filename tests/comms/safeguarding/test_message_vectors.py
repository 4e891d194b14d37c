"""Vectors of messages: the worker stores them, no user reads them, and an edit or a deletion deletes them."""

from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from comms.kernel.database import Actor
from comms.safeguarding.message_assessments.vectors import save_vectors
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


def towards(*axes: int) -> list[float]:
    """Returns a unit vector along the mean of the axes: vectors that share fewer axes are farther apart."""
    vector = np.zeros(384)
    vector[list(axes)] = 1 / np.sqrt(len(axes))
    return vector.tolist()


async def save_vectors_of(
    worker_ctx: AppContext, actor: Actor, *vectors: tuple[str, list[float]], model: str = "m1"
) -> None:
    worker = Actor(actor.tenant_id, actor.user_id, "service")
    async with worker_ctx.database.acting_as(worker) as conn:
        await save_vectors(conn, worker, [(UUID(message), vector) for message, vector in vectors], model)


def stored_vectors(databases: Databases, actor: Actor) -> list[dict[str, Any]]:
    """Returns the vectors of the actor's tenant."""
    with psycopg.connect(databases.administrator, row_factory=dict_row) as admin:
        return admin.execute(
            "select message_id::text as id, model, embedding::text as embedding from message_vectors "
            "where tenant_id = %s", (actor.tenant_id,),
        ).fetchall()  # fmt: skip


async def test_a_vector_is_read_by_nobody(talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(0)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(ctx, mia, "select 1 from message_vectors")


async def test_a_message_read_again_has_its_new_vector_alone(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(0)))
    await talk.ask(mia, "PUT", f"/api/messages/{message['id']}", json={"content": "Ada ate"})
    assert stored_vectors(databases, mia) == []
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(1)))
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(2)), model="m2")
    (row,) = stored_vectors(databases, mia)
    assert (row["model"], row["embedding"].count("1")) == ("m2", 1)


async def test_a_deleted_message_has_no_vector_and_is_given_none(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(0)))
    await talk.ask(mia, "DELETE", f"/api/messages/{message['id']}")
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(0)))
    with psycopg.connect(databases.administrator) as admin:
        kept = admin.execute("select count(*) from message_vectors where message_id = %s", (message["id"],)).fetchone()
    assert kept == (0,)


async def test_the_worker_lays_vectors_for_its_own_tenant_and_changes_no_message(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    mia, stranger = await factories.make_actor(ctx, "care_manager"), await factories.make_actor(ctx)
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await save_vectors_of(worker_ctx, stranger, (message["id"], towards(0)))
    assert stored_vectors(databases, mia) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            worker_ctx, mia, "update messages set version = 9 where id = %s returning 1", message["id"]
        )
