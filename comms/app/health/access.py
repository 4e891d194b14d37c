"""Who may look at the measurements and the detailed health: the installation's own token, or a role that may.

The token is for supervisors and Prometheus. It needs no database, so that it opens these pages when that is down.
"""

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials

from comms.kernel.access.roles import refuse_unless
from comms.kernel.database import RequestOrigin
from comms.web.credentials import refuse_inactive
from comms.web.dependencies import ContextDep, authenticated_actor, bearer, origin_of


async def require_operator(
    request: Request,
    ctx: ContextDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    origin: Annotated[RequestOrigin, Depends(origin_of)],
) -> None:
    """Raises `unauthenticated`, `refused`, `unavailable` (`too-many-requests`, `database-unreachable`)."""
    if credentials is not None and ctx.operations_token.is_that(credentials.credentials):
        return
    actor = await authenticated_actor(request, ctx, credentials, origin)
    refuse_unless(actor, "operations.read")
    async with ctx.database.acting_as(actor) as conn:
        await refuse_inactive(conn, actor)


OperatorAccess: Final = Depends(require_operator)
