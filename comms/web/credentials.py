"""Authenticates the bearer credential of a request and gives its actor, for this API and the model API."""

from comms.kernel.access.service_keys import KEY_PREFIX, authenticate_key
from comms.kernel.access.tokens import Verifier
from comms.kernel.database import Actor, Connection, Database
from models.contract.errors import Kind, WriteCareError


async def authenticate(database: Database, verifier: Verifier, credential: str | None) -> Actor:
    """The actor of a token or of a service account's key; raises `unauthenticated`.

    A token is checked without the database. `refuse_inactive` checks in the actor's transaction whether its owner is
    still active.
    """
    if credential is not None and credential.startswith(KEY_PREFIX):
        return await authenticate_key(database, credential)
    return verifier.verify(credential)


async def refuse_inactive(conn: Connection, actor: Actor) -> None:
    """Raises `unauthenticated` if the owner of a valid token is not active, or its sign-in has ended."""
    found = await conn.execute(
        "select u.active and (%(sign_in)s::uuid is null or exists (select 1 from sign_ins s "
        "where s.tenant_id = u.tenant_id and s.id = %(sign_in)s and s.user_id = u.id and s.ended_at is null "
        "and s.expires_at > now())) as good from users u where u.tenant_id = %(tenant)s and u.id = %(user)s",
        {"sign_in": actor.sign_in_id, "tenant": actor.tenant_id, "user": actor.user_id},
    )
    row = await found.fetchone()
    if row is None or not row["good"]:
        raise WriteCareError(
            Kind.UNAUTHENTICATED, "token-invalid",
            "This token's owner has no active account here, or its sign-in has ended: sign in again.",
        )  # fmt: skip
