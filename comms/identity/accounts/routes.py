"""HTTP routes for one's own password and second factor, and for changes to the accounts of others."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from comms.identity import passwords, second_factors
from comms.identity.account_changes import approval, queries
from comms.identity.account_changes.queries import AccountChange, ChangeState
from comms.identity.accounts import notifications
from comms.identity.authentication import sign_in
from comms.identity.authentication.sign_in import PasswordChange
from comms.identity.passwords import PasswordReset
from comms.identity.second_factors import NewSecondFactor, RecoveryCodes
from comms.identity.sign_ins.queries import end_all_sign_ins
from comms.identity.users.queries import read_managed_user, read_user
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.web.dependencies import AuthorisedRequest, ContextDep, active_actor, actor_with, authorised, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from models.contract.errors import refused
from models.contract.records import Record

router = APIRouter(tags=["identity"])

ManageAccess = Annotated[Actor, actor_with("users.manage")]
ApproveAccess = Annotated[Actor, actor_with("users.approve")]
_WAITS: Final[dict[int | str, dict[str, Any]]] = {
    202: {"description": "The change needs approval by a second person", "model": AccountChange}
}


class SentCode(Record):
    """A one-time code or a recovery code."""

    code: str = Field(max_length=40, repr=False)


class Enrolment(Record):
    """A person who already has a second factor must send a code of it before it is replaced."""

    code: str | None = Field(default=None, max_length=40, repr=False)


class SamePerson(Record):
    """Another account of the same person."""

    user_id: UUID


class ApprovedChange(Record):
    """A change that was made now. `second_half` is the approver's half of a printed code, shown once: hand it to the
    person."""

    change: AccountChange
    second_half: str | None = Field(repr=False)


@router.put("/api/me/password", status_code=204)
async def change_password(change: PasswordChange, ctx: ContextDep, person: Annotated[Actor, active_actor()]) -> None:
    """Sets or changes your own password: at least 12 characters and not easy to guess. Ends your other sign-ins."""
    await sign_in.change_password(ctx, person, change)


@router.get("/api/me/account-changes")
async def list_my_account_changes(
    request: Annotated[AuthorisedRequest, authorised()], cursor: Cursor = None, limit: Limit = 50
) -> Page[AccountChange]:
    """Lists what others did or requested to your own accounts, newest first."""
    found = await queries.list_changes(request.conn, own=True, before=cursor or MAX_UUID, limit=limit + 1)
    return page_of(found, limit)


@router.get("/api/account-changes")
async def list_account_changes(
    request: Annotated[AuthorisedRequest, authorised_for("users.approve")],
    state: ChangeState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AccountChange]:
    """Lists changes to the tenant's accounts, newest first. `?state=waiting`: those that need a second person."""
    found = await queries.list_changes(request.conn, state=state, before=cursor or MAX_UUID, limit=limit + 1)
    return page_of(found, limit)


@router.get("/api/account-changes/{change_id}")
async def read_account_change(
    change_id: UUID, request: Annotated[AuthorisedRequest, authorised_for("users.approve")]
) -> AccountChange:
    """Returns one change."""
    return await queries.read_change(request.conn, change_id)


@router.post("/api/account-changes/{change_id}/approve")
async def approve_account_change(change_id: UUID, ctx: ContextDep, actor: ApproveAccess) -> ApprovedChange:
    """Approves a change as the second person; the change is then made. If the code is printed, only this response shows
    your half of it: hand it to the person yourself."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        approved = await approval.approve(conn, actor, change_id, by_email=ctx.mailer is not None)
        user = await read_user(conn, approved.change.user_id)
        if approved.code is not None:
            await notifications.send_code(conn, ctx, user, approved.code)
    await notifications.notify_of_change(ctx, user, approved.change.kind)
    return ApprovedChange(change=approved.change, second_half=approved.second_half)


@router.post("/api/account-changes/{change_id}/refuse")
async def refuse_account_change(change_id: UUID, ctx: ContextDep, actor: ApproveAccess) -> AccountChange:
    """Ends a change without making it: the requester withdraws it, or a second person refuses it."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        return await approval.refuse_change(conn, actor, change_id)


@router.post("/api/users/{user_id}/password-reset", status_code=201)
async def reset_password(user_id: UUID, ctx: ContextDep, actor: ManageAccess, response: Response) -> PasswordReset:
    """Starts a reset of a person's first or next password. Only the person gets the whole code: by e-mail, or as two
    halves that two people hand over. A privileged account needs a second person in both cases."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        user = await read_managed_user(conn, actor, user_id)
        await passwords.refuse_unless_local(conn, ctx.settings, user_id)
        reset, code = await passwords.reset_password(conn, actor, user, by_email=ctx.mailer is not None)
        if code is not None:
            await notifications.send_code(conn, ctx, user, code)
    response.headers["Location"] = f"/api/account-changes/{reset.change.id}"
    return reset


@router.put("/api/users/{user_id}/person", status_code=202)
async def join_accounts(user_id: UUID, same: SamePerson, ctx: ContextDep, actor: ManageAccess) -> AccountChange:
    """Requests to link two accounts to one person, so that data about one is withheld from both. Needs a second
    person."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        user = await read_managed_user(conn, actor, user_id)
        await read_user(conn, same.user_id)
        if same.user_id == user_id:
            raise refused("same-account", "Both ids name one account: give another account of the same person.")
        return await queries.request_change(conn, actor, user_id, "person", user.role, same_as=same.user_id)


@router.post("/api/me/second-factor", status_code=201)
async def enrol_second_factor(
    sent: Enrolment, ctx: ContextDep, person: Annotated[Actor, active_actor()], response: Response
) -> NewSecondFactor:
    """Returns the secret of a new authenticator, once. Sign-in requires it after a code has confirmed it."""
    response.headers["Location"] = "/api/me/second-factor"
    return await sign_in.enrol_second_factor(ctx, person, sent.code)


@router.post("/api/me/second-factor/confirm")
async def confirm_second_factor(sent: SentCode, request: Annotated[AuthorisedRequest, authorised()]) -> RecoveryCodes:
    """Confirms the authenticator with one of its codes and returns the recovery codes, once."""
    return await second_factors.confirm_second_factor(request.conn, request.ctx.keys, request.actor, sent.code)


@router.delete("/api/users/{user_id}/second-factor", status_code=204, responses=_WAITS)
async def remove_second_factor(user_id: UUID, ctx: ContextDep, actor: ManageAccess) -> Response:
    """Removes a lost authenticator from the account of a person whom you may manage, and signs them out. For a
    privileged account, a second person must approve it first (202)."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        user = await read_managed_user(conn, actor, user_id)
        if approval.needs_second_person(user.role):
            change = await queries.request_change(conn, actor, user_id, "second_factor", user.role)
            return Response(change.model_dump_json(), 202, media_type="application/json")
        await second_factors.remove_second_factor(conn, actor, user_id)
        change = await queries.record_change(conn, actor, user_id, "second_factor", user.role)
        await end_all_sign_ins(conn, actor, user_id, "account_changed")
    await notifications.notify_of_change(ctx, user, change.kind)
    return Response(status_code=204)
