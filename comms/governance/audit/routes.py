"""HTTP routes for the audit log, for the data-protection officer and the safeguarding lead. Reading it is also
audited."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from comms.governance.audit.anchors import AnchorKey, AnchorStore
from comms.governance.audit.queries import Act, ActFilter, list_acts
from comms.governance.audit.verification import Verification, verify_chain
from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.kernel.time_types import Time
from comms.web.dependencies import AuthorisedRequest, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of

router = APIRouter(prefix="/api/audit", tags=["audit"])

ReadAccess = Annotated[AuthorisedRequest, authorised_for("audit.read")]
Code = Annotated[str | None, Query(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]


def wanted_acts(
    *,
    object_type: Code = None,
    object_id: UUID | None = None,
    actor_id: UUID | None = None,
    action: Code = None,
    since: Time | None = None,
    until: Time | None = None,
) -> ActFilter:
    """Returns the filter in the query string."""
    return ActFilter(
        object_type=object_type, object_id=object_id, actor_id=actor_id, action=action, since=since, until=until
    )


@router.get("")
async def read_log(
    authorised: ReadAccess, wanted: Annotated[ActFilter, Depends(wanted_acts)], cursor: Cursor = None, limit: Limit = 50
) -> Page[Act]:
    """Lists who did what to which object, when, from where and why; newest first."""
    page = page_of(await list_acts(authorised.conn, wanted, before=cursor or MAX_UUID, limit=limit + 1), limit)
    named = wanted.model_dump(mode="json", exclude_none=True)
    await record_act(authorised.conn, authorised.actor, "audit.read", ("tenant", authorised.actor.tenant_id), named)
    return page


@router.get("/verification")
async def verify(authorised: ReadAccess) -> Verification:
    """Verifies the tenant's chain from its first entry: it is whole, or the answer shows the first fault.

    Only the chain protects `unanchored` entries: if the newest of them were removed with their seals, no check would
    show it. `WRITECARE_AUDIT_ANCHOR_SECONDS` says how long an entry stays unanchored.
    """
    anchor_store = AnchorStore(authorised.ctx.objects, AnchorKey.open(authorised.ctx.settings.data_dir / "keys"))
    # Without a user: entries that are withheld from the actor would otherwise look as if they had been removed.
    verifier = Actor(authorised.actor.tenant_id, NIL_UUID, "data_protection_officer")
    async with authorised.ctx.database.acting_as(verifier) as conn:
        found = await verify_chain(conn, anchor_store, authorised.actor.tenant_id)
    outcome = {"sealed": found.sealed, "whole": found.whole}
    await record_act(
        authorised.conn, authorised.actor, "audit.verified", ("tenant", authorised.actor.tenant_id), outcome
    )
    return found
