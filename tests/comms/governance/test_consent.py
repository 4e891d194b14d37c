"""Tests of consent: nothing is processed without a lawful basis; what `permits` returns, how it changes, what is
stored."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from comms.governance.consent.lawful_grounds import PURPOSES, LegalBasis, ProposedActivity, Purpose, assess
from comms.governance.consent.permissions import lock_permission, permits, refuse_unless_permitted
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError
from tests import factories

pytestmark = pytest.mark.anyio


async def answer(ctx: AppContext, actor: Actor, person: Actor, purpose: Purpose = "record") -> tuple[bool, str]:
    async with ctx.database.acting_as(actor) as conn:
        permission = await permits(conn, person.user_id, purpose)
        return permission.permitted, permission.reason


async def make_pair(ctx: AppContext) -> tuple[Actor, Actor]:
    """Returns a manager and a resident of one home."""
    manager = await factories.make_actor(ctx, "care_manager")
    return manager, await factories.make_user(ctx, manager.tenant_id, "resident")


# --- the table --------------------------------------------------------------------------------------------------------


async def test_without_a_ground_in_force_nothing_is_permitted(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    assert await answer(ctx, manager, resident) == (False, "no-lawful-basis")
    activity = await factories.put_in_force(ctx, manager, "record")
    await factories.grant(ctx, manager, resident, "record")
    assert await answer(ctx, manager, resident) == (True, "consent-granted")
    assert await answer(ctx, manager, resident, "analyse") == (False, "no-lawful-basis")
    async with ctx.database.acting_as(manager) as conn:
        await conn.execute("update data_processing_activities set ended_at = now() where id = %s", (activity.id,))
    assert await answer(ctx, manager, resident) == (False, "no-lawful-basis")


async def test_on_consent_a_standing_yes_is_needed(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    assert await answer(ctx, manager, resident) == (False, "consent-missing")
    await factories.grant(ctx, manager, resident, "record")
    assert await answer(ctx, manager, resident) == (True, "consent-granted")
    await factories.withdraw(ctx, manager, resident, "record")
    assert await answer(ctx, manager, resident) == (False, "consent-withdrawn")
    await factories.grant(ctx, manager, resident, "record")
    assert await answer(ctx, manager, resident) == (True, "consent-granted")


async def test_a_yes_that_has_run_out_is_none(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    [record] = await factories.grant(ctx, manager, resident, "record")
    async with ctx.database.acting_as(manager) as conn:
        await conn.execute(
            "update consent_records set expiry_date = now() - interval '1 minute' where id = %s", (record.id,)
        )
    assert await answer(ctx, manager, resident) == (False, "consent-expired")


@pytest.mark.parametrize("basis", ["vital_interests", "legal_obligation", "public_task", "legitimate_interests"])
async def test_on_another_basis_no_yes_is_needed_but_a_no_is_heard(ctx: AppContext, basis: LegalBasis) -> None:
    manager, resident = await make_pair(ctx)
    activity = await factories.put_in_force(ctx, manager, "analyse", basis)
    async with ctx.database.acting_as(manager) as conn:
        permission = await permits(conn, resident.user_id, "analyse")
    assert (permission.permitted, permission.legal_basis, permission.activity_id, permission.decided_by) == (
        True, basis, activity.id, manager.user_id,
    )  # fmt: skip
    await factories.withdraw(ctx, manager, resident, "analyse")
    assert await answer(ctx, manager, resident, "analyse") == (False, "consent-refused")


async def test_a_new_ground_does_not_inherit_the_consent_given_to_the_one_before(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    await factories.grant(ctx, manager, resident, "record")
    await factories.put_in_force(ctx, manager, "record")
    assert await answer(ctx, manager, resident) == (False, "consent-missing")


async def test_the_refusal_names_the_people_and_the_call_that_mends_it(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    await factories.grant(ctx, manager, manager, "record")
    async with ctx.database.acting_as(manager) as conn:
        with pytest.raises(WriteCareError) as refusal:
            await refuse_unless_permitted(conn, [manager.user_id, resident.user_id], "record")
    assert (refusal.value.kind, refusal.value.slug) == (Kind.REFUSED, "consent-missing")
    assert str(resident.user_id) in refusal.value.detail
    assert str(manager.user_id) not in refusal.value.detail
    assert "POST /api/consent/grant" in refusal.value.detail


async def test_as_a_member_of_another_tenant_a_person_is_not_there(ctx: AppContext) -> None:
    _, resident = await make_pair(ctx)
    stranger = await factories.make_actor(ctx, "care_manager")
    async with ctx.database.acting_as(stranger) as conn:
        with pytest.raises(WriteCareError) as refusal:
            await permits(conn, resident.user_id, "record")
    assert refusal.value.kind == Kind.MISSING


# --- the lock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["withdrawn", "refused without a record", "ground ended"])
async def test_a_change_waits_for_the_transaction_that_stores(
    ctx: AppContext, worker_ctx: AppContext, change: str
) -> None:
    manager, resident = await make_pair(ctx)
    activity = await factories.put_in_force(
        ctx, manager, "analyse", "consent" if change == "withdrawn" else "public_task"
    )
    if change == "withdrawn":
        await factories.grant(ctx, manager, resident, "analyse")

    async def change_it() -> None:
        if change == "ground ended":
            await factories.rows(
                ctx, manager, "update data_processing_activities set ended_at = now() where id = %s returning id",
                activity.id,
            )  # fmt: skip
        else:
            await factories.withdraw(ctx, manager, resident, "analyse")

    worker = Actor(manager.tenant_id, manager.user_id, "service")
    async with worker_ctx.database.acting_as(worker) as conn:
        assert (await lock_permission(conn, resident.user_id, "analyse")).permitted
        changing = asyncio.create_task(change_it())
        done, _ = await asyncio.wait([changing], timeout=0.5)
        assert not done, "consent changed under a transaction that rests on it"
        assert (await lock_permission(conn, resident.user_id, "analyse")).permitted
    await changing
    async with worker_ctx.database.acting_as(worker) as conn:
        assert not (await lock_permission(conn, resident.user_id, "analyse")).permitted


async def test_the_worker_may_lock_consent_but_not_change_it(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    await factories.grant(ctx, manager, resident, "record")
    worker = Actor(manager.tenant_id, manager.user_id, "service")
    for statement in (
        "update consent_records set version = version + 1",
        "update consent_records set consent_status = 'granted'",
        "update data_processing_activities set description = 'x'",
        "update data_processing_activities set ended_at = now()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(worker_ctx, worker, statement)


# --- the history ------------------------------------------------------------------------------------------------------


async def test_the_history_keeps_every_change_and_nobody_can_change_it(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    officer = await factories.make_user(ctx, manager.tenant_id, "data_protection_officer")
    await factories.put_in_force(ctx, manager, "record")
    await factories.grant(ctx, manager, resident, "record")
    await factories.withdraw(ctx, manager, resident, "record")
    history = await factories.rows(
        ctx, officer, "select previous_status, new_status, performed_by from consent_audit_trail order by id"
    )
    assert [(row["previous_status"], row["new_status"]) for row in history] == [
        (None, "granted"),
        ("granted", "withdrawn"),
    ]
    for statement in (
        "update consent_audit_trail set new_status = 'granted'",
        "delete from consent_audit_trail",
        "truncate consent_audit_trail",
        "insert into consent_audit_trail (tenant_id, consent_record_id, action, new_status, performed_by) "
        "select tenant_id, consent_record_id, 'granted', 'granted', performed_by from consent_audit_trail",
        "delete from consent_records",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(ctx, officer, statement)


async def test_a_change_of_consent_is_told_as_an_event_with_ids_alone(ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    [granted] = await factories.grant(ctx, manager, resident, "record")
    events = await factories.rows(
        ctx, manager, "select type, aggregate_version, data from events where aggregate_id = %s", granted.id
    )
    assert events == [
        {
            "type": "consent.changed",
            "aggregate_version": 1,
            "data": {
                "user_id": str(resident.user_id), "purpose": "record", "status": "granted",
                "consent_record_id": str(granted.id), "activity_id": str(granted.activity_id),
            },
        }
    ]  # fmt: skip


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_a_person_gives_sees_and_takes_back_their_own_consent(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    own = factories.bearer(ctx, resident)
    wish = {"user_id": str(resident.user_id), "purpose": "record"}
    granted = await client.post("/api/consent/grant", json=wish | {"consent_method": "verbal"}, headers=own)
    assert (granted.status_code, granted.json()["consent_status"]) == (201, "granted")
    state = (await client.get(granted.headers["location"], headers=own)).json()
    assert [p["permitted"] for p in state["permissions"]] == [purpose == "record" for purpose in PURPOSES]
    withdrawn = await client.post("/api/consent/withdraw", json=wish, headers=own)
    assert (withdrawn.status_code, withdrawn.json()["consent_status"]) == (200, "withdrawn")
    assert withdrawn.json()["version"] == 2
    again = await client.post("/api/consent/withdraw", json=wish, headers=own)
    assert again.json()["version"] == 2
    trail = await client.get("/api/consent/audit-trail", params={"user_id": str(resident.user_id)}, headers=own)
    assert [act["new_status"] for act in trail.json()["items"]] == ["withdrawn", "granted"]


async def test_a_person_may_not_speak_for_another(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    relative = await factories.make_user(ctx, manager.tenant_id, "external")
    await factories.put_in_force(ctx, manager, "record")
    others = {"user_id": str(resident.user_id), "purpose": "record"}
    headers = factories.bearer(ctx, relative)
    assert (await client.post("/api/consent/grant", json=others, headers=headers)).status_code == 403
    assert (await client.post("/api/consent/withdraw", json=others, headers=headers)).status_code == 403
    assert (await client.get(f"/api/consent/status/{resident.user_id}", headers=headers)).status_code == 403
    assert (await client.get("/api/consent/audit-trail", headers=headers)).status_code == 403


async def test_asking_is_noted_until_the_answer_comes(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    headers = factories.bearer(ctx, manager)
    wish = {"user_id": str(resident.user_id), "purpose": "record"}
    asked = await client.post("/api/consent/request", json=wish, headers=headers)
    assert (asked.status_code, asked.json()["consent_status"]) == (201, "requested")
    assert await answer(ctx, manager, resident) == (False, "consent-requested")
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    assert (
        await client.post("/api/consent/grant", json=wish | {"expiry_date": later}, headers=headers)
    ).status_code == 200
    standing = await client.post("/api/consent/request", json=wish, headers=headers)
    assert (standing.status_code, standing.json()["type"].rpartition("/")[2]) == (409, "consent-standing")


async def test_consent_that_is_over_before_it_begins_is_refused(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident = await make_pair(ctx)
    await factories.put_in_force(ctx, manager, "record")
    wish = {"user_id": str(resident.user_id), "purpose": "record", "expiry_date": "2020-01-01T00:00:00Z"}
    past = await client.post("/api/consent/grant", json=wish, headers=factories.bearer(ctx, manager))
    assert (past.status_code, past.json()["type"].rpartition("/")[2]) == (422, "expiry-past")


async def test_a_ground_is_decided_read_and_ended(client: httpx.AsyncClient, ctx: AppContext) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    headers = factories.bearer(ctx, officer)
    ground: dict[str, Any] = {
        "activity_type": "analyse", "purpose": "To notice harm early", "legal_basis": "public_task",
        "special_category_condition": "DPA 2018 Sch. 1 para. 18", "retention_period_days": 365,
    }  # fmt: skip
    made = await client.post("/api/processing-activities", json=ground, headers=headers)
    assert (made.status_code, made.json()["decided_by"]) == (201, str(officer.user_id))
    assert (await client.get(made.headers["location"], headers=headers)).json() == made.json()
    in_force = await client.get("/api/processing-activities", params={"in_force": True}, headers=headers)
    assert [item["id"] for item in in_force.json()["items"]] == [made.json()["id"]]
    path = f"/api/processing-activities/{made.json()['id']}"
    assert (await client.delete(path, headers=headers)).status_code == 204
    assert (await client.get(made.headers["location"], headers=headers)).json()["ended_at"] is not None
    unsound = await client.post(
        "/api/processing-activities", json=ground | {"special_category_condition": None}, headers=headers
    )
    assert (unsound.status_code, unsound.json()["type"].rpartition("/")[2]) == (422, "legal-basis-unsound")


async def test_of_two_who_decide_at_once_one_is_told_to_look_again(ctx: AppContext) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    for _ in range(5):
        outcomes = await asyncio.gather(
            *(factories.put_in_force(ctx, officer, "record") for _ in range(4)), return_exceptions=True
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(lost) < len(outcomes)
        assert {getattr(outcome, "slug", repr(outcome)) for outcome in lost} <= {"ground-just-decided"}
    in_force = await factories.rows(ctx, officer, "select 1 from data_processing_activities where ended_at is null")
    assert len(in_force) == 1


async def test_as_a_member_of_another_tenant_a_ground_is_not_there(client: httpx.AsyncClient, ctx: AppContext) -> None:
    officer = await factories.make_actor(ctx, "data_protection_officer")
    activity = await factories.put_in_force(ctx, officer, "record")
    stranger = factories.bearer(ctx, await factories.make_actor(ctx, "data_protection_officer"))
    assert (await client.get(f"/api/legal-basis/{activity.id}", headers=stranger)).status_code == 404
    assert (await client.delete(f"/api/processing-activities/{activity.id}", headers=stranger)).status_code == 404
    assert (await client.get("/api/processing-activities", headers=stranger)).json()["items"] == []


@pytest.mark.parametrize(
    ("purpose", "basis", "condition", "sound"),
    [
        ("record", "consent", None, True),
        ("record", "legitimate_interests", None, False),
        ("analyse", "recognised_legitimate_interest", "DPA 2018 Sch. 1 para. 18", True),
        ("train", "recognised_legitimate_interest", "DPA 2018 Sch. 1 para. 18", False),
        ("voiceprint", "vital_interests", "article 9(2)(c)", False),
    ],
)
def test_the_plain_rules_of_law(purpose: Purpose, basis: LegalBasis, condition: str | None, sound: bool) -> None:
    ground = ProposedActivity(activity_type=purpose, legal_basis=basis, special_category_condition=condition)
    assert assess(ground).sound is sound
