"""The log of acts over HTTP, for the data-protection officer and the safeguarding lead. Reading it is an act too."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from comms.governance.audit.anchors import AnchorBook, AnchorKey
from comms.governance.audit.queries import Act, ActFilter, list_acts
from comms.governance.audit.verification import Verification, verify_chain
from comms.kernel.access.system_actor import NOBODY
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.kernel.time_types import Time
from comms.web.dependencies import Acting, acting_with
from comms.web.pagination import LAST_ID, Cursor, Limit, Page, page_of

router = APIRouter(prefix="/api/audit", tags=["audit"])

Reading = Annotated[Acting, acting_with("audit.read")]
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
    """What the query string names."""
    return ActFilter(
        object_type=object_type, object_id=object_id, actor_id=actor_id, action=action, since=since, until=until
    )


@router.get("")
async def read_log(
    acting: Reading, wanted: Annotated[ActFilter, Depends(wanted_acts)], cursor: Cursor = None, limit: Limit = 50
) -> Page[Act]:
    """Who did what to what, when, from where and why; newest first."""
    page = page_of(await list_acts(acting.conn, wanted, before=cursor or LAST_ID, limit=limit + 1), limit)
    named = wanted.model_dump(mode="json", exclude_none=True)
    await record_act(acting.conn, acting.actor, "audit.read", ("tenant", acting.actor.tenant_id), named)
    return page


@router.get("/verification")
async def verify(acting: Reading) -> Verification:
    """Walks the tenant's chain from its first act: whole, or where it is first broken.

    `unanchored` acts are vouched for by the chain alone: if the newest of them were removed with their seals, nothing
    would show it. `WRITECARE_AUDIT_ANCHOR_SECONDS` says how long an act stays so.
    """
    book = AnchorBook(acting.house.objects, AnchorKey.open(acting.house.settings.data_dir / "keys"))
    # In nobody's name: acts that are withheld from whoever asks would look to them as if they had been removed.
    verifier = Actor(acting.actor.tenant_id, NOBODY, "data_protection_officer")
    async with acting.house.database.acting_as(verifier) as conn:
        found = await verify_chain(conn, book, acting.actor.tenant_id)
    outcome = {"sealed": found.sealed, "whole": found.whole}
    await record_act(acting.conn, acting.actor, "audit.verified", ("tenant", acting.actor.tenant_id), outcome)
    return found
