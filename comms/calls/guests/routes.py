"""Routes of guests: staff invite them, and they sign in with their link."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from comms.calls.guests import queries
from comms.calls.guests.queries import Invitation, NewInvitation
from comms.kernel.access.system_actor import system_actor
from comms.web.dependencies import RATE_LIMIT_BY_ADDRESS, AuthorisedRequest, ContextDep, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute
from models.contract.records import Record

router = APIRouter(prefix="/api", tags=["guests"], route_class=PlatformRoute)

InviteAccess = Annotated[AuthorisedRequest, authorised_for("sessions.write")]


class SignedInvitation(Invitation):
    """An invitation with the signed part of its link, which no other response contains."""

    invitation: str = Field(repr=False)


class Entering(Record):
    """The signed part of the link of a guest."""

    invitation: str = Field(max_length=4096, repr=False)


class GuestToken(Record):
    """An access token for one session, valid for `expires_in` seconds; the link gives a new one at each use."""

    access_token: str = Field(repr=False)
    expires_in: int
    session_id: UUID
    user_id: UUID


@router.post("/sessions/{session_id}/invitations", status_code=201)
async def invite(
    session_id: UUID, new: NewInvitation, authorised: InviteAccess, response: Response
) -> SignedInvitation:
    """Invites a person without an account, only to this session; only this response contains the signed link."""
    made = await queries.invite(authorised.conn, authorised.actor, session_id, new)
    response.headers["Location"] = f"/api/sessions/{session_id}/invitations"
    signed = authorised.ctx.issuer.sign_invitation(authorised.actor.tenant_id, made.id, session_id, made.expires_at)
    return SignedInvitation(**made.model_dump(), invitation=signed)


@router.get("/sessions/{session_id}/invitations")
async def list_invitations(
    session_id: UUID, authorised: InviteAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[Invitation]:
    """Lists the invitations to the session, newest first."""
    found = await queries.list_invitations(
        authorised.conn, authorised.actor, session_id, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.delete("/sessions/{session_id}/invitations/{invitation_id}", status_code=204)
async def revoke(session_id: UUID, invitation_id: UUID, authorised: InviteAccess) -> None:
    """Revokes the link; a guest who used it is removed from the session at once."""
    await queries.revoke(authorised.conn, authorised.actor, session_id, invitation_id)


# A separate router without idempotency keys: these requests have no signed-in actor, and repeating them does no harm.
public_router = APIRouter(prefix="/api/guests", tags=["guests"])


@public_router.post("/enter", dependencies=[RATE_LIMIT_BY_ADDRESS])
async def enter(entering: Entering, ctx: ContextDep) -> GuestToken:
    """Signs a guest in with their link: returns a token for that session, its WebSocket and their own consent."""
    tenant_id, invitation_id = ctx.verifier.verify_invitation(entering.invitation)
    async with ctx.database.acting_as(system_actor(tenant_id, invitation_id)) as conn:
        guest, seconds = await queries.enter(conn, tenant_id, invitation_id)
    assert guest.session_id is not None, "a guest must have a session"
    return GuestToken(
        access_token=ctx.issuer.sign(guest, seconds), expires_in=seconds,
        session_id=guest.session_id, user_id=guest.user_id,
    )  # fmt: skip
