"""Guests over HTTP: invited by staff, let in by their link."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from comms.calls.guests import queries
from comms.calls.guests.queries import Invitation, NewInvitation
from comms.kernel.access.system_actor import door
from comms.web.dependencies import FROM_ANYBODY, Acting, InHouse, acting_with
from comms.web.pagination import LAST_ID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute
from models.contract.records import Record

router = APIRouter(prefix="/api", tags=["guests"], route_class=PlatformRoute)

Inviting = Annotated[Acting, acting_with("sessions.write")]


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
async def invite(session_id: UUID, new: NewInvitation, acting: Inviting, response: Response) -> SignedInvitation:
    """Invites somebody without an account to this session alone; the signed link is in this answer and in no other."""
    made = await queries.invite(acting.conn, acting.actor, session_id, new)
    response.headers["Location"] = f"/api/sessions/{session_id}/invitations"
    signed = acting.house.issuer.sign_invitation(acting.actor.tenant_id, made.id, session_id, made.expires_at)
    return SignedInvitation(**made.model_dump(), invitation=signed)


@router.get("/sessions/{session_id}/invitations")
async def list_invitations(
    session_id: UUID, acting: Inviting, cursor: Cursor = None, limit: Limit = 50
) -> Page[Invitation]:
    """Who was invited to the session by link, newest first."""
    found = await queries.list_invitations(
        acting.conn, acting.actor, session_id, before=cursor or LAST_ID, limit=limit + 1
    )
    return page_of(found, limit)


@router.delete("/sessions/{session_id}/invitations/{invitation_id}", status_code=204)
async def revoke(session_id: UUID, invitation_id: UUID, acting: Inviting) -> None:
    """Takes the link back; a guest who is in by it is out at once."""
    await queries.revoke(acting.conn, acting.actor, session_id, invitation_id)


# without a transaction of a request that is signed in, so no key for one effect; entering twice does no harm
entrance = APIRouter(prefix="/api/guests", tags=["guests"])


@entrance.post("/enter", dependencies=[FROM_ANYBODY])
async def enter(entering: Entering, house: InHouse) -> GuestToken:
    """Lets a guest in by their link, without an account: a token for that session, their socket, their own consent."""
    tenant_id, invitation_id = house.verifier.verify_invitation(entering.invitation)
    async with house.database.acting_as(door(tenant_id, invitation_id)) as conn:
        guest, seconds = await queries.enter(conn, tenant_id, invitation_id)
    assert guest.session_id is not None, "a guest has a session"
    return GuestToken(
        access_token=house.issuer.sign(guest, seconds), expires_in=seconds,
        session_id=guest.session_id, user_id=guest.user_id,
    )  # fmt: skip
