"""Service accounts: users for programs, each with the role `service` and its own key.

A key is `wcc_<tenant><account>_<secret>`. It is shown once; the database stores only the secret's hash. The key permits
what both its scopes and the role `service` permit. It is valid until it expires or the account is closed; closing the
account deactivates its user.
"""

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.identity.account_changes.queries import request_change
from comms.kernel.access.roles import PRIVILEGED_SCOPES, RolePermission, role_has
from comms.kernel.access.service_keys import KEY_PREFIX, SERVICE_ROLE, hash_secret
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.text_types import Name
from comms.kernel.time_types import Time
from models.contract.errors import invalid, missing
from models.contract.records import Record

_LONGEST: Final = timedelta(days=366)


class NewServiceAccount(Record):
    """A service account to create. Its key expires within a year."""

    name: Name = Field(min_length=1, max_length=255, repr=False)
    scopes: frozenset[RolePermission] = Field(min_length=1)
    expires_at: Time


class ServiceAccount(Record):
    """A service account, without its key."""

    id: UUID
    name: str = Field(repr=False)
    scopes: frozenset[str]
    active: bool
    created_by: UUID
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class ServiceAccountWithKey(ServiceAccount):
    """The answer to the creation. Only this answer shows the key."""

    key: str = Field(repr=False)


_SELECT: Final = (
    "select a.id, u.display_name as name, a.scopes, u.active, a.created_by, a.created_at, a.expires_at, a.last_used_at "
    "from service_accounts a join users u on u.tenant_id = a.tenant_id and u.id = a.id "
)


async def create_service_account(conn: Connection, actor: Actor, new: NewServiceAccount) -> ServiceAccountWithKey:
    """Creates a service account. It belongs to its creator: data about the creator is withheld from it too.

    If a scope reads data that alerts are about, the key is valid only after a second person has approved the account.
    Raises `invalid` for a scope that the role `service` lacks (`scope-not-a-services`), or for an expiry in the past or
    more than a year away (`expiry-out-of-range`).
    """
    if beyond := sorted(scope for scope in new.scopes if not role_has(SERVICE_ROLE, scope)):
        raise invalid("scope-not-a-services", f"The role {SERVICE_ROLE} lacks {', '.join(beyond)}: leave it out.")
    now = datetime.now(UTC)
    if not now < new.expires_at <= now + _LONGEST:
        raise invalid("expiry-out-of-range", "expires_at must be in the future and at most 366 days away.")
    secret = secrets.token_urlsafe(32)
    waits = bool(new.scopes & PRIVILEGED_SCOPES)
    made = await conn.execute(
        "with person as (insert into users (tenant_id, slug, display_name, role, active, person_id) "
        "values (%s, %s, %s, %s, %s, (select m.person_id from users m where m.id = %s)) "
        "returning tenant_id, id) insert into service_accounts (tenant_id, id, scopes, secret_hash, expires_at, "
        "created_by) select tenant_id, id, %s, %s, %s, %s from person returning id",
        (
            actor.tenant_id, f"service-{uuid.uuid4().hex}", new.name, SERVICE_ROLE, not waits, actor.user_id,
            sorted(new.scopes), hash_secret(secret), new.expires_at, actor.user_id,
        ),
    )  # fmt: skip
    row = await made.fetchone()
    assert row is not None, "insert ... returning gave no row"
    await record_act(conn, actor, "service_account.created", ("user", row["id"]), {"scopes": sorted(new.scopes)})
    if waits:
        await request_change(conn, actor, row["id"], "account", SERVICE_ROLE)
    account = await read_service_account(conn, row["id"])
    key = f"{KEY_PREFIX}{actor.tenant_id.hex}{account.id.hex}_{secret}"
    return ServiceAccountWithKey(**account.model_dump(), key=key)


async def read_service_account(conn: Connection, account_id: UUID) -> ServiceAccount:
    """Returns one service account; raises `missing`."""
    row = await (await conn.execute(_SELECT + "where a.id = %s", (account_id,))).fetchone()
    if row is None:
        raise missing("service account")
    return ServiceAccount.model_validate(row)


async def list_service_accounts(conn: Connection, *, before: UUID, limit: int) -> list[ServiceAccount]:
    """Lists service accounts, also closed ones, with an id before `before`, newest first."""
    found = await conn.execute(_SELECT + "where a.id < %s order by a.id desc limit %s", (before, limit))
    return [ServiceAccount.model_validate(row) for row in await found.fetchall()]
