"""Who calls: the one place where what stands after `Bearer` becomes an actor, for this API and the model API alike."""

from comms.database import Actor, Database
from comms.identity.tokens import Verifier
from comms.service_accounts.queries import KEY_PREFIX, owner_of_key


async def owner_of(database: Database, verifier: Verifier, credential: str | None) -> Actor:
    """Whom a token or a service account's key speaks for; raises `unauthenticated`.

    A token is checked without the database; whether its owner is still active is asked where they act.
    """
    if credential is not None and credential.startswith(KEY_PREFIX):
        return await owner_of_key(database, credential)
    return verifier.verify(credential)
