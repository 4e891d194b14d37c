"""Guests over HTTP: invited by staff, let in by their link."""

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
    """An invitation with the signed part of its link, which no other answer shows."""

    invitation: str = Field(repr=False)


class Entering(Record):
    """What a guest brings: the signed part of their link."""

    invitation: str = Field(max_length=4096, repr=False)


class GuestToken(Record):
    """A token that opens the one session, for so many seconds; entering again gives another."""

    access_token: str = Field(repr=False)
    expires_in: int
    session_id: UUID
    user_id: UUID


@router.post("/sessions/{session_id}/invitations", status_code=201)
async def invite(
    session_id: UUID, new: NewInvitation, authorised: InviteAccess, response: Response
) -> SignedInvitation:
    """Invites somebody without an account to this session alone; the signed link is in this answer and in no other."""
    made = await queries.invite(authorised.conn, authorised.actor, session_id, new)
    response.headers["Location"] = f"/api/sessions/{session_id}/invitations"
    signed = authorised.ctx.issuer.sign_invitation(authorised.actor.tenant_id, made.id, session_id, made.expires_at)
    return SignedInvitation(**made.model_dump(), invitation=signed)


@router.get("/sessions/{session_id}/invitations")
async def list_invitations(
    session_id: UUID, authorised: InviteAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[Invitation]:
    """Who was invited to the session by link, newest first."""
    found = await queries.list_invitations(
        authorised.conn, authorised.actor, session_id, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.delete("/sessions/{session_id}/invitations/{invitation_id}", status_code=204)
async def revoke(session_id: UUID, invitation_id: UUID, authorised: InviteAccess) -> None:
    """Takes the link back; a guest who is in by it is out at once."""
    await queries.revoke(authorised.conn, authorised.actor, session_id, invitation_id)


# without a transaction of a request that is signed in, so no key for one effect; entering twice does no harm
public_router = APIRouter(prefix="/api/guests", tags=["guests"])


@public_router.post("/enter", dependencies=[RATE_LIMIT_BY_ADDRESS])
async def enter(entering: Entering, ctx: ContextDep) -> GuestToken:
    """Lets a guest in by their link, without an account: a token for that session, their socket, their own consent."""
    tenant_id, invitation_id = ctx.verifier.verify_invitation(entering.invitation)
    async with ctx.database.acting_as(system_actor(tenant_id, invitation_id)) as conn:
        guest, seconds = await queries.enter(conn, tenant_id, invitation_id)
    assert guest.session_id is not None, "a guest has a session"
    return GuestToken(
        access_token=ctx.issuer.sign(guest, seconds), expires_in=seconds,
        session_id=guest.session_id, user_id=guest.user_id,
    )  # fmt: skip
