"""Access to `/metrics` and `/health/detailed`: with the operations token of the installation, or with
`operations.read`.

The operations token is for supervisors and Prometheus. Its check needs no database, so it works when the database is
down.
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
