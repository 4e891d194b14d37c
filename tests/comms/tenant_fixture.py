"""Makes a tenant that has at least one object of every kind; isolation tests search for it from another tenant."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from comms.calls.stage_timings.queries import save_timings
from comms.delivery.webhooks.queries import NewWebhook, create_webhook
from comms.governance.break_glass.queries import NewBrokenGlass, break_glass
from comms.governance.retention.holds import NewHold, place_hold
from comms.governance.retention.rules import RuleChange, decide_rule
from comms.identity.homes.queries import NewHome, create_home
from comms.identity.passwords import reset_password
from comms.identity.service_accounts.queries import NewServiceAccount, create_service_account
from comms.identity.users.queries import read_user
from comms.kernel.access.roles import ROLES
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor, one
from comms.live.tickets import make_ticket
from comms.messaging.conversations.members import make_conversation
from comms.messaging.conversations.queries import CareContext, ConversationSettings, NewConversation
from comms.messaging.conversations.receipts import NewReceipt, give_receipt
from comms.messaging.message_records import MessageChange, NewFileMessage, NewMessage
from comms.messaging.messages.queries import edit_message, send_message
from comms.messaging.messages.reactions import NewReaction, add_reaction
from comms.safeguarding.alerts import queries as alerts
from comms.safeguarding.alerts.records import NewReview
from comms.web.context import AppContext
from models.contract.records import StageTiming
from tests import factories
from tests.comms import recording_fixtures


@dataclass(frozen=True)
class TenantFixture:
    """A tenant, a user in each role, and one id of every kind."""

    tenant_id: uuid.UUID
    people: dict[str, Actor]
    ids: dict[str, uuid.UUID]


async def make_tenant_fixture(ctx: AppContext, worker_ctx: AppContext) -> TenantFixture:
    """Makes a home, users, a session with an analysed recording, a reviewed alert, a lawful basis, consent, a
    ticket.
    """
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    people: dict[str, Actor] = {role: await factories.make_user(ctx, made.tenant_id, role) for role in ROLES}
    officer, manager = people["data_protection_officer"], people["care_manager"]
    activity = await factories.put_in_force(ctx, officer, "record")
    await factories.grant(ctx, manager, made.people["S2"], "record")
    async with ctx.database.acting_as(manager) as conn:
        home = await create_home(conn, manager, NewHome(name=f"Home {uuid.uuid4()}"))
        await make_ticket(conn, manager)
    async with ctx.database.acting_as(made.lead) as conn:
        await alerts.view_alert(conn, made.lead, alert.id)
        await alerts.review_alert(conn, made.lead, alert.id, NewReview(decision="escalate", reason="Look at once."), 1)
    async with worker_ctx.database.acting_as(made.worker) as conn:
        timing = StageTiming(stage="decoded", audio_seconds=1.0, wall_seconds=1.0)
        await save_timings(conn, made.worker, made.recording_id, [timing])
    conversation_id, message_id = await _talk(ctx, manager, made.people["S2"])
    attachment_id = await _send_file(ctx, manager, conversation_id)
    invitation = await factories.rows(
        ctx, manager,
        "insert into session_invitations (tenant_id, id, session_id, display_name, participant_type, invited_by, "
        "expires_at) values (%s, uuidv7(), %s, 'Guest', 'guest', %s, now() + interval '1 day') returning id",
        made.tenant_id, made.session_id, manager.user_id,
    )  # fmt: skip
    carer = people["care_worker"]
    async with ctx.database.acting_as(carer) as conn:
        need = NewBrokenGlass(object_kind="care_context", object_id=made.session_id, reason="Now.", minutes=5)
        glass = await break_glass(conn, carer, need)
    administrator = people["platform_admin"]
    async with ctx.database.acting_as(administrator) as conn:
        key = await create_service_account(conn, administrator, _rota())
    program = people["service"]
    async with ctx.database.acting_as(program) as conn:
        new = NewWebhook(url="https://hooks.example/alerts", event_types=("alert.reviewed",))
        webhook = await create_webhook(conn, program, ctx.keys, (), new)
        made_delivery = await conn.execute(
            "insert into webhook_deliveries (tenant_id, webhook_id, event_id, aggregate_id, position) "
            "select tenant_id, %s, id, aggregate_id, 1 from events limit 1 returning id",
            (webhook.id,),
        )
        delivery = one(await made_delivery.fetchone())
    async with ctx.database.acting_as(system_actor(made.tenant_id, administrator.user_id)) as conn:
        of_manager = await read_user(conn, manager.user_id)
        reset, _ = await reset_password(conn, administrator, of_manager, by_email=False)
    inside = await factories.signed_in(ctx, manager)
    assert inside.sign_in_id is not None
    ids = {
        "tenant": made.tenant_id, "home": home.id, "user": made.people["S2"].user_id, "session": made.session_id,
        "recording": made.recording_id, "alert": alert.id, "ground": activity.id,
        "webhook": webhook.id, "delivery": delivery["id"], "sign_in": inside.sign_in_id, "service_account": key.id,
        "account_change": reset.change.id, "invitation": invitation[0]["id"], "glass": glass.id,
        "resident": people["resident"].user_id, "conversation": conversation_id, "message": message_id,
        "attachment": attachment_id, "hold": await _hold(ctx, officer, conversation_id),
    }  # fmt: skip
    return TenantFixture(made.tenant_id, people, ids)


async def _hold(ctx: AppContext, officer: Actor, conversation_id: uuid.UUID) -> uuid.UUID:
    """Holds the conversation for a case, by a retention rule of the officer."""
    async with ctx.database.acting_as(officer) as conn:
        await decide_rule(conn, officer, "messages", RuleChange(days=3650), None)
        return (await place_hold(conn, officer, NewHold(conversation_id=conversation_id, reference="case-1"))).id


def _rota() -> NewServiceAccount:
    """Makes a service account with a key."""
    return NewServiceAccount(
        name="Rota", scopes=frozenset({"homes.read"}), expires_at=datetime.now(UTC) + timedelta(days=1)
    )


async def _talk(ctx: AppContext, manager: Actor, other: Actor) -> tuple[uuid.UUID, uuid.UUID]:
    """Makes a conversation of the two, and a message with everything that a message can have."""
    async with ctx.database.acting_as(manager) as conn:
        context = CareContext(residents=(other.user_id,) * (other.role == "resident"), incidents=("INC-1",))
        new = NewConversation(
            conversation_type="group", members=(other.user_id,), care_context=context, settings=ConversationSettings()
        )
        conversation, _ = await make_conversation(conn, manager, new)
        words = NewMessage(conversation_id=conversation.id, content="Tea?", mentions=(other.user_id,))
        message = await send_message(conn, manager, words)
        await edit_message(conn, manager, message.id, MessageChange(content="Tea at four?"), None)
        await add_reaction(conn, manager, message.id, NewReaction(reaction="yes"))
        await give_receipt(conn, manager, conversation.id, "read", NewReceipt(up_to=message.id))
    return conversation.id, message.id


async def _send_file(ctx: AppContext, manager: Actor, conversation_id: uuid.UUID) -> uuid.UUID:
    """Sends an attachment in a message."""
    attachment = await factories.attach(ctx, manager, conversation_id, b"Care plan: turn her every two hours.")
    new = NewFileMessage(conversation_id=conversation_id, attachments=(attachment.id,), message_type="file")
    async with ctx.database.acting_as(manager) as conn:
        await send_message(conn, manager, new)
    return attachment.id
