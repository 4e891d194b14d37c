"""The route that returns the signed-in user. The console and scripts call it first."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from comms.kernel.access.roles import PERMISSIONS, RolePermission, actor_has
from comms.web.dependencies import AuthorisedRequest, authorised
from models.contract.records import Record

router = APIRouter(prefix="/api/me", tags=["identity"])


class Me(Record):
    """The owner of the token, its sign-in and its permissions."""

    tenant_id: UUID
    user_id: UUID
    role: str
    sign_in_id: UUID | None
    permissions: tuple[RolePermission, ...]


@router.get("")
async def read_me(request: Annotated[AuthorisedRequest, authorised()]) -> Me:
    """Returns the tenant, user, role and permissions of the token or key."""
    actor = request.actor
    held = tuple(name for name in PERMISSIONS if actor_has(actor, name))
    return Me(
        tenant_id=actor.tenant_id, user_id=actor.user_id, role=actor.role, sign_in_id=actor.sign_in_id,
        permissions=held,
    )  # fmt: skip
