"""Tests of the audit log: every entry is sealed once in its tenant's chain, and every later change is detected."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import httpx
import psycopg
import pytest
from fastapi import FastAPI

from comms.governance.audit.anchors import Anchor, AnchorKey, Head
from comms.governance.audit.hash_chain import ACTS_AS_TEXT, FIELDS, GENESIS, next_hash
from comms.governance.audit.sealer import seal_batch
from comms.kernel.access.roles import PERMISSIONS, ROLES
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import audit_helpers, outbox_helpers, recording_fixtures

pytestmark = pytest.mark.anyio


# --- sealing ----------------------------------------------------------------------------------------------------------


async def test_every_column_of_an_act_is_hashed(databases: Databases) -> None:
    columns = await outbox_helpers.query_as_admin(
        databases, "select column_name from information_schema.columns where table_name = 'audit_log'"
    )
    assert {row["column_name"] for row in columns} == set(FIELDS)


async def numbers(databases: Databases, tenant_id: uuid.UUID) -> list[int]:
    sealed = await outbox_helpers.query_as_admin(
        databases, "select number from audit_seals where tenant_id = %s order by number", tenant_id
    )
    return [row["number"] for row in sealed]


async def test_acts_of_many_writers_at_once_are_each_sealed_once(ctx: AppContext, databases: Databases) -> None:
    writers = [await factories.make_actor(ctx) for _ in range(4)]
    async with audit_helpers.sealing(ctx, databases):
        await asyncio.gather(*(audit_helpers.act(ctx, writer, 15) for writer in writers for _ in range(2)))
        await outbox_helpers.until(partial(audit_helpers.nothing_waits, databases))
    for writer in writers:
        assert await numbers(databases, writer.tenant_id) == list(range(1, 32))  # the creation of the user is one entry
        found = await audit_helpers.verified(ctx, databases, writer.tenant_id)
        assert (found.whole, found.sealed, found.anchored, found.waiting) == (True, 31, 31, 0)


async def test_an_act_that_commits_late_is_sealed_after_those_that_overtook_it(
    ctx: AppContext, databases: Databases
) -> None:
    writer = await factories.make_actor(ctx)
    async with ctx.database.acting_as(writer) as late:
        await record_act(late, writer, "test.late", ("user", writer.user_id))
        await audit_helpers.act(ctx, writer, 3)
        await audit_helpers.seal(ctx, databases)
        overtaken = await audit_helpers.verified(ctx, databases, writer.tenant_id)
    assert (overtaken.whole, overtaken.sealed) == (True, 4)
    await audit_helpers.seal(ctx, databases)
    last = await outbox_helpers.query_as_admin(
        databases,
        "select action from audit_seals s join audit_log l on l.tenant_id = s.tenant_id and l.id = s.audit_id "
        "where s.tenant_id = %s and s.number = 5",
        writer.tenant_id,
    )
    assert last == [{"action": "test.late"}]
    assert (await audit_helpers.verified(ctx, databases, writer.tenant_id)).whole


async def test_no_writer_waits_for_the_sealer_nor_the_sealer_for_a_writer(
    ctx: AppContext, databases: Databases
) -> None:
    writer = await factories.make_actor(ctx)
    with anyio.fail_after(30):
        async with ctx.database.acting_as(writer) as open_act:
            await record_act(open_act, writer, "test.open", ("user", writer.user_id))
            async with audit_helpers.connected(databases.sealer) as sealer, sealer.transaction():
                assert writer.tenant_id in await seal_batch(sealer)  # not committed yet
                await audit_helpers.act(ctx, writer, 3)


async def test_sealers_that_are_killed_again_and_again_leave_a_whole_chain(
    ctx: AppContext, databases: Databases
) -> None:
    writer = await factories.make_actor(ctx)
    for _ in range(3):
        victim = audit_helpers.start_sealer(ctx, databases)
        try:
            await outbox_helpers.until(partial(_stands, databases))
            await audit_helpers.act(ctx, writer, 40)
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
    successor = audit_helpers.start_sealer(ctx, databases)
    await outbox_helpers.until(partial(_stands, databases))
    successor.send_signal(signal.SIGTERM)
    assert successor.wait() == 0
    found = await audit_helpers.verified(ctx, databases, writer.tenant_id)
    assert (found.whole, found.sealed, found.anchored) == (True, 121, 121)


async def _stands(databases: Databases) -> bool:
    found = "select 1 from pg_stat_activity where application_name = 'writecare-sealer'"
    return await outbox_helpers.query_as_admin(databases, found) != []


async def test_of_two_sealers_one_seals_and_the_other_waits(ctx: AppContext, databases: Databases) -> None:
    writer = await factories.make_actor(ctx)
    async with audit_helpers.sealing(ctx, databases), audit_helpers.sealing(ctx, databases):
        await audit_helpers.act(ctx, writer, 20)
        await outbox_helpers.until(partial(audit_helpers.nothing_waits, databases))
    found = await audit_helpers.verified(ctx, databases, writer.tenant_id)
    assert (found.whole, found.sealed) == (True, 21)


async def test_the_sealers_role_sees_acts_and_seals_and_nothing_else(databases: Databases) -> None:
    async with audit_helpers.connected(databases.sealer) as conn:
        for table in ("users", "utterances", "alerts", "events", "consent_records", "recordings"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(f"select 1 from {table}".encode())
        for statement in (
            "select name from tenants", "delete from audit_log", "update audit_seals set number = 1",
            "delete from audit_seals", "insert into audit_log select * from audit_log",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement.encode())


# --- tampering --------------------------------------------------------------------------------------------------------

Tampering = Callable[[AppContext, Databases, Actor], Awaitable[None]]


async def change_an_act(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(
        databases,
        (
            "update audit_log set reason = 'other' where tenant_id = %s and id = (select audit_id from audit_seals s "
            "where s.tenant_id = %s and number = 4)",
            (actor.tenant_id, actor.tenant_id),
        ),
    )


async def remove_an_act(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(
        databases,
        (
            "delete from audit_log where tenant_id = %s and id = (select audit_id from audit_seals s "
            "where s.tenant_id = %s and number = 4)",
            (actor.tenant_id, actor.tenant_id),
        ),
    )


async def remove_a_seal(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(
        databases, ("delete from audit_seals where tenant_id = %s and number = 4", (actor.tenant_id,))
    )


async def close_the_gap_over_a_removed_act(ctx: AppContext, databases: Databases, actor: Actor) -> None:
    await remove_an_act(ctx, databases, actor)
    await audit_helpers.tamper(
        databases,
        ("delete from audit_seals where tenant_id = %s and number = 4", (actor.tenant_id,)),
        ("update audit_seals set number = number + 1000 where tenant_id = %s and number > 4", (actor.tenant_id,)),
        ("update audit_seals set number = number - 1001 where tenant_id = %s and number > 1000", (actor.tenant_id,)),
    )


def _insert(times: str) -> str:
    return (
        "insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, created_at) "
        f"values (%s, %s, 'reviewer', 'test.slipped', 'user', %s, {times})"
    )


async def slip_an_act_in(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(databases, (_insert("now()"), (actor.tenant_id, actor.user_id, actor.user_id)))


async def backdate_an_act(ctx: AppContext, databases: Databases, actor: Actor) -> None:
    async with audit_helpers.connected(databases.administrator) as conn, conn.transaction():
        await conn.execute("select set_config('app.tenant_id', %s, true)", (str(actor.tenant_id),))
        values = (actor.tenant_id, actor.user_id, actor.user_id)
        await conn.execute(_insert("now() - interval '1 day'").encode(), values)
    await audit_helpers.seal(ctx, databases)


async def cut_the_tail(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(
        databases,
        (
            "delete from audit_log l using audit_seals s where s.tenant_id = l.tenant_id and s.audit_id = l.id "
            "and l.tenant_id = %s and s.number > 4",
            (actor.tenant_id,),
        ),
        ("delete from audit_seals where tenant_id = %s and number > 4", (actor.tenant_id,)),
    )


async def cut_the_tail_and_go_on(ctx: AppContext, databases: Databases, actor: Actor) -> None:
    await cut_the_tail(ctx, databases, actor)
    await audit_helpers.act(ctx, actor, 10)
    await audit_helpers.seal(ctx, databases)


async def write_history_anew(_: AppContext, databases: Databases, actor: Actor) -> None:
    """Changes an entry and recomputes all later hashes as the sealer does."""
    async with audit_helpers.connected(databases.administrator) as conn, conn.transaction():
        await conn.execute("set local session_replication_role = replica")
        await conn.execute("update audit_log set action = 'test.other' where tenant_id = %s", (actor.tenant_id,))
        acts = await conn.execute(
            f"select s.number, l.* from audit_seals s join {ACTS_AS_TEXT} l on l.tenant_id = s.tenant_id "
            "and l.id = s.audit_id where s.tenant_id = %s order by s.number".encode(),
            (actor.tenant_id,),
        )
        hash = GENESIS
        for act in await acts.fetchall():
            hash = next_hash(hash, act["number"], act)
            await conn.execute(
                "update audit_seals set hash = %s where tenant_id = %s and number = %s",
                (hash, actor.tenant_id, act["number"]),
            )


async def remove_everything(_: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.tamper(
        databases,
        ("delete from audit_log where tenant_id = %s", (actor.tenant_id,)),
        ("delete from audit_seals where tenant_id = %s", (actor.tenant_id,)),
    )


async def remove_an_act_that_waits(ctx: AppContext, databases: Databases, actor: Actor) -> None:
    await audit_helpers.act(ctx, actor, action="test.waits")
    await audit_helpers.tamper(
        databases, ("delete from audit_log where tenant_id = %s and action = 'test.waits'", (actor.tenant_id,))
    )


TAMPERINGS: dict[str, tuple[Tampering, str, int | None]] = {
    "an act that was changed": (change_an_act, "hash-differs", 4),
    "an act that was removed": (remove_an_act, "act-missing", 4),
    "a seal that was removed": (remove_a_seal, "seal-missing", 4),
    "a gap that was closed": (close_the_gap_over_a_removed_act, "hash-differs", 4),
    "an act that was slipped in": (slip_an_act_in, "act-unqueued", None),
    "an act that claims an earlier time": (backdate_an_act, "act-backdated", 8),
    "a tail that was cut": (cut_the_tail, "chain-cut", 7),
    "a tail that was cut and grew again": (cut_the_tail_and_go_on, "anchor-differs", 7),
    "a history that was written anew": (write_history_anew, "anchor-differs", 7),
    "a log that was emptied": (remove_everything, "chain-cut", 7),
    "an act that was removed before its seal": (remove_an_act_that_waits, "act-removed-unsealed", None),
}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_the_verification_finds(ctx: AppContext, databases: Databases, what: str) -> None:
    tampering, code, number = TAMPERINGS[what]
    actor = await factories.make_actor(ctx)
    await audit_helpers.act(ctx, actor, 6)
    await audit_helpers.seal(ctx, databases)
    assert (await audit_helpers.verified(ctx, databases, actor.tenant_id)).whole
    await tampering(ctx, databases, actor)
    found = await audit_helpers.verified(ctx, databases, actor.tenant_id)
    assert found.fault is not None
    assert (found.whole, found.fault.code, found.fault.number) == (False, code, number)


async def test_acts_that_nobody_seals_are_overdue_after_a_minute(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    async with audit_helpers.connected(databases.administrator) as conn, conn.transaction():
        await conn.execute("select set_config('app.tenant_id', %s, true)", (str(actor.tenant_id),))
        values = (actor.tenant_id, actor.user_id, actor.user_id)
        await conn.execute(_insert("now() - interval '61 seconds'").encode(), values)
    found = await audit_helpers.verified(ctx, databases, actor.tenant_id)
    assert (found.whole, found.overdue, found.waiting) == (True, True, 2)


async def test_an_anchor_is_believed_only_as_it_was_signed(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    await audit_helpers.seal(ctx, databases)
    anchor_store = audit_helpers.anchor_store_of(ctx)
    anchor = await anchor_store.newest(actor.tenant_id)
    assert anchor is not None
    key = AnchorKey.open(ctx.settings.data_dir / "keys")
    assert key.is_signed_by_us(anchor)
    for change in ({"number": 9}, {"hash": "0" * 64}, {"tenant_id": uuid.uuid4()}, {"signature": "00"}):
        assert not key.is_signed_by_us(Anchor(**(anchor.model_dump() | change)))
    (file,) = (ctx.settings.data_dir / "recordings" / "audit" / str(actor.tenant_id)).iterdir()
    file.write_text(file.read_text().replace('"number":1', '"number":2'))
    found = await audit_helpers.verified(ctx, databases, actor.tenant_id)
    assert found.fault is not None
    assert found.fault.code == "anchor-forged"


async def test_anchors_of_a_day_are_kept_line_by_line(ctx: AppContext) -> None:
    tenant_id, anchor_store = uuid.uuid4(), audit_helpers.anchor_store_of(ctx)
    now = (await _moment(ctx)).replace(hour=12)
    laid = [await anchor_store.append(Head(tenant_id=tenant_id, number=n, hash=f"{n:064x}"), now) for n in (1, 2, 3)]
    assert [day async for day in anchor_store.days(tenant_id)] == [laid]


async def _moment(ctx: AppContext) -> Any:
    async with ctx.database.without_tenant() as conn:
        row = await (await conn.execute("select now() as now")).fetchone()
    assert row is not None
    return row["now"]


# --- what people see of it --------------------------------------------------------------------------------------------


async def test_an_act_says_who_when_from_where_and_why(app: FastAPI, ctx: AppContext) -> None:
    transport = httpx.ASGITransport(app=app, client=("203.0.113.9", 4711))
    client = httpx.AsyncClient(transport=transport, base_url="http://writecare.test")
    officer = await factories.make_actor(ctx, "data_protection_officer")
    signed = factories.bearer(ctx, officer)
    answer = await client.get("/api/audit", headers={**signed, "X-Access-Reason": "DSR-2026/17"})
    assert answer.status_code == 200
    log = (await client.get("/api/audit?action=audit.read", headers=signed)).json()["items"]
    (act,) = log
    assert act["request_id"] == answer.headers["X-Request-ID"]
    assert (act["actor_id"], act["address"], act["reason"]) == (str(officer.user_id), "203.0.113.9", "DSR-2026/17")
    assert (act["object_type"], act["object_id"], act["number"]) == ("tenant", str(officer.tenant_id), None)


async def test_a_reason_is_a_code_and_never_words(client: httpx.AsyncClient, ctx: AppContext) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    headers = {**factories.bearer(ctx, officer), "X-Access-Reason": "because Ada said so"}
    answer = await client.get("/api/audit", headers=headers)
    assert answer.status_code == 422
    assert "Ada" not in answer.text


async def test_the_log_is_narrowed_and_paged(client: httpx.AsyncClient, ctx: AppContext) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    other = await factories.make_user(ctx, officer.tenant_id)
    await audit_helpers.act(ctx, other, 5)
    await audit_helpers.act(ctx, officer, 2)
    signed = factories.bearer(ctx, officer)

    async def listed(query: str) -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(f"/api/audit?{query}", headers=signed)).json()
        return found

    assert len((await listed(f"actor_id={other.user_id}"))["items"]) == 5
    assert len((await listed(f"object_type=user&object_id={officer.user_id}&action=test.acted"))["items"]) == 2
    assert (await listed("until=2020-01-01T00:00:00Z"))["items"] == []
    first = await listed(f"actor_id={other.user_id}&limit=3")
    second = await listed(f"actor_id={other.user_id}&limit=3&cursor={first['next']}")
    ids = [act["id"] for act in first["items"] + second["items"]]
    assert (len(set(ids)), ids, second["next"]) == (5, sorted(ids, reverse=True), None)


@pytest.mark.parametrize("path", ["/api/audit", "/api/audit/verification"])
async def test_the_log_is_for_those_who_may_read_it(client: httpx.AsyncClient, ctx: AppContext, path: str) -> None:
    tenant_id = await factories.make_tenant(ctx)
    for role in ROLES:
        reader = await factories.make_user(ctx, tenant_id, role)
        answer = await client.get(path, headers=factories.bearer(ctx, reader))
        assert answer.status_code == (200 if role in PERMISSIONS["audit.read"] else 403), role


async def test_an_officer_is_told_whether_the_chain_is_whole(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    await audit_helpers.act(ctx, officer, 6)
    await audit_helpers.seal(ctx, databases)
    signed = factories.bearer(ctx, officer)
    whole = (await client.get("/api/audit/verification", headers=signed)).json()
    assert (whole["whole"], whole["sealed"], whole["anchored"], whole["fault"]) == (True, 7, 7, None)
    await remove_an_act(ctx, databases, officer)
    broken = (await client.get("/api/audit/verification", headers=signed)).json()
    assert (broken["whole"], broken["fault"]["code"], broken["fault"]["number"]) == (False, "act-missing", 4)


async def test_what_a_cut_since_the_last_anchor_would_hide_is_said(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    await audit_helpers.act(ctx, officer, 6)
    await audit_helpers.seal(ctx, databases)
    signed = factories.bearer(ctx, officer)
    anchored = (await client.get("/api/audit/verification", headers=signed)).json()
    assert (anchored["sealed"], anchored["anchored"], anchored["unanchored"]) == (7, 7, 0)
    await audit_helpers.act(ctx, officer, 3)
    async with audit_helpers.connected(databases.sealer) as conn:
        while await seal_batch(conn):
            pass
    grown = (await client.get("/api/audit/verification", headers=signed)).json()
    # the three entries and the verification before
    assert (grown["whole"], grown["sealed"], grown["anchored"], grown["unanchored"]) == (True, 11, 7, 4)


async def test_a_log_that_holds_acts_withheld_from_the_officer_is_whole_for_them_too(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    officer = await factories.make_user(ctx, made.tenant_id, "data_protection_officer")
    named = await client.post(
        f"/api/alerts/{alert.id}/subjects", json={"user_id": str(officer.user_id)},
        headers=factories.bearer(ctx, made.lead),
    )  # fmt: skip
    assert named.json()["standing"] == "named"
    await audit_helpers.seal(ctx, databases)
    found = (await client.get("/api/audit/verification", headers=factories.bearer(ctx, officer))).json()
    assert (found["whole"], found["fault"]) == (True, None)


async def test_who_an_alert_is_about_does_not_read_that_others_read_the_log_about_it(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    officer = await factories.make_user(ctx, made.tenant_id, "data_protection_officer")
    subject = await factories.make_user(ctx, made.tenant_id, "safeguarding_lead")
    await client.post(
        f"/api/alerts/{alert.id}/subjects", json={"user_id": str(subject.user_id)},
        headers=factories.bearer(ctx, made.lead),
    )  # fmt: skip
    asked = f"/api/audit?object_id={alert.id}"
    assert (await client.get(asked, headers=factories.bearer(ctx, officer))).json()["items"] != []
    assert (await client.get(asked, headers=factories.bearer(ctx, subject))).json()["items"] == []
    log = "/api/audit?action=audit.read"
    assert str(alert.id) in (await client.get(log, headers=factories.bearer(ctx, officer))).text
    assert str(alert.id) not in (await client.get(log, headers=factories.bearer(ctx, subject))).text


async def test_the_command_names_the_first_broken_place(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    await audit_helpers.act(ctx, actor, 6)
    await audit_helpers.seal(ctx, databases)
    found = await outbox_helpers.query_as_admin(databases, "select slug from tenants where id = %s", actor.tenant_id)
    slug = found[0]["slug"]
    whole = await _command(ctx, databases, slug)
    assert (whole.returncode, whole.stdout.split("\t")[:3]) == (0, [slug, "whole", "sealed 7"])
    await change_an_act(ctx, databases, actor)
    broken = await _command(ctx, databases, slug)
    assert broken.returncode == 1
    assert f"tenant {slug} is broken: hash-differs at number 4" in broken.stderr.splitlines()[-1]
    assert (await _command(ctx, databases, "no-such-tenant")).returncode == 1


async def _command(ctx: AppContext, databases: Databases, slug: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cli", "verify-audit", "--tenant", slug]
    return await asyncio.to_thread(
        subprocess.run,
        [*command, "--data", str(ctx.settings.data_dir)],
        cwd=audit_helpers.ROOT, capture_output=True, text=True, check=False,
        env={"DATABASE_URL": databases.administrator, "PATH": os.environ["PATH"]},
    )  # fmt: skip
