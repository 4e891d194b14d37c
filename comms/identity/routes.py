"""Who am I: the signed-in person, as the console and scripts ask first."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from comms.http import Acting, acting
from comms.identity.roles import PERMISSIONS, RolePermission
from models.records import Record

router = APIRouter(prefix="/api/me", tags=["identity"])


class Me(Record):
    """The token's owner and what their role may do."""

    tenant_id: UUID
    user_id: UUID
    role: str
    permissions: tuple[RolePermission, ...]


@router.get("")
async def read_me(request: Annotated[Acting, acting()]) -> Me:
    """Tenant, person, role and the permissions that the role holds."""
    actor = request.actor
    held = tuple(name for name, roles in PERMISSIONS.items() if actor.role in roles)
    return Me(tenant_id=actor.tenant_id, user_id=actor.user_id, role=actor.role, permissions=held)
