"""Vectors of messages: laid by the worker, seen as their message is, gone with the words that they were made of."""

from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psycopg
import pytest

from comms.database import Actor
from comms.house import House
from comms.messages.vectors import save_vectors
from tests import factories
from tests.comms.messaging import Talk

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(client: httpx.AsyncClient, house: House) -> Talk:
    return Talk(client, house)


def towards(*axes: int) -> list[float]:
    """A unit vector between the axes: the fewer two share, the further they are from each other."""
    vector = np.zeros(384)
    vector[list(axes)] = 1 / np.sqrt(len(axes))
    return vector.tolist()


async def lay(worker_house: House, actor: Actor, *vectors: tuple[str, list[float]], model: str = "m1") -> None:
    worker = Actor(actor.tenant_id, actor.user_id, "service")
    async with worker_house.database.acting_as(worker) as conn:
        await save_vectors(conn, worker, [(UUID(message), vector) for message, vector in vectors], model)


async def laid(house: House, actor: Actor) -> list[dict[str, Any]]:
    """What the actor sees of vectors."""
    return await factories.rows(
        house, actor, "select message_id::text as id, model, embedding::text as embedding from message_vectors"
    )


async def test_a_vector_is_seen_by_those_who_see_its_message(talk: Talk, house: House, worker_house: House) -> None:
    mia = await factories.make_actor(house, "care_manager")
    sam, lead = await talk.person(mia), await talk.person(mia, "safeguarding_lead")
    path = await talk.begin(mia, sam)
    message = await talk.say(mia, path, "Ada fell")
    await lay(worker_house, mia, (message["id"], towards(0)))
    stranger = await factories.make_actor(house, "safeguarding_lead")
    for actor, expected in ((mia, [message["id"]]), (sam, [message["id"]]), (lead, []), (stranger, [])):
        assert [row["id"] for row in await laid(house, actor)] == expected


async def test_a_message_read_again_has_its_new_vector_alone(talk: Talk, house: House, worker_house: House) -> None:
    mia = await factories.make_actor(house, "care_manager")
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await lay(worker_house, mia, (message["id"], towards(0)))
    await talk.ask(mia, "PUT", f"/api/messages/{message['id']}", json={"content": "Ada ate"})
    assert await laid(house, mia) == []
    await lay(worker_house, mia, (message["id"], towards(1)))
    await lay(worker_house, mia, (message["id"], towards(2)), model="m2")
    (row,) = await laid(house, mia)
    assert (row["model"], row["embedding"].count("1")) == ("m2", 1)


async def test_a_deleted_message_has_no_vector_and_is_given_none(
    talk: Talk, house: House, worker_house: House, databases: Any
) -> None:
    mia = await factories.make_actor(house, "care_manager")
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await lay(worker_house, mia, (message["id"], towards(0)))
    await talk.ask(mia, "DELETE", f"/api/messages/{message['id']}")
    await lay(worker_house, mia, (message["id"], towards(0)))
    with psycopg.connect(databases.administrator) as admin:
        kept = admin.execute("select count(*) from message_vectors where message_id = %s", (message["id"],)).fetchone()
    assert kept == (0,)


async def test_the_worker_lays_vectors_for_its_own_tenant_and_changes_no_message(
    talk: Talk, house: House, worker_house: House
) -> None:
    mia, stranger = await factories.make_actor(house, "care_manager"), await factories.make_actor(house)
    message = await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "Ada fell")
    await lay(worker_house, stranger, (message["id"], towards(0)))
    assert await laid(house, mia) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            worker_house, mia, "update messages set version = 9 where id = %s returning 1", message["id"]
        )
