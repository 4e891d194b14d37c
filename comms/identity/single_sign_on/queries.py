"""Maps the claims of the single sign-on provider to a tenant, a user and a role of this system.

The settings map claim values to roles; an unknown value is refused. At the first sign-on, the user is linked to the
provider's subject. If the provider later gives the user name to another person, that person cannot use the account. An
account with a password or a key of its own is never linked.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from comms.identity.account_changes.queries import record_change
from comms.identity.sign_ins.queries import end_all_sign_ins
from comms.identity.single_sign_on.assurance import has_two_factors
from comms.identity.users.queries import propose_same_person
from comms.kernel.access.roles import PRIVILEGED, Role
from comms.kernel.access.system_actor import NIL_UUID, system_actor
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, Database
from comms.kernel.settings import Settings
from comms.kernel.text_types import shown_name
from models.contract.errors import WriteCareError, refused

LOGIN_FLOW_SECONDS: Final = 600
_LONGEST_EMAIL: Final = 254
_UNFIT: Final = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True)
class ClaimedIdentity:
    """The identity that the provider claims, in the terms of this system."""

    issuer: str
    subject: str
    tenant: str
    user: str
    role: Role
    display_name: str
    email: str | None  # only if the provider has verified it

    def __repr__(self) -> str:
        return f"ClaimedIdentity(role={self.role!r})"


def read_claims(settings: Settings, claims: Mapping[str, Any]) -> ClaimedIdentity:
    """Reads the identity from the claims.

    Raises `refused` if a claim is missing or the settings do not map it to exactly one role (`sign-on-claims`), and if
    the role requires two factors and the claims do not prove them (`sign-on-one-factor`).
    """
    tenant, user = claims.get(settings.oidc_tenant_claim), claims.get(settings.oidc_user_claim)
    said = claims.get(settings.oidc_role_claim)
    words = said if isinstance(said, list) else [said]
    roles = {settings.oidc_roles[word] for word in words if isinstance(word, str) and word in settings.oidc_roles}
    if not isinstance(tenant, str) or not isinstance(user, str) or len(roles) != 1:
        raise _unknown()
    (role,) = roles
    if role in settings.second_factor_roles and not has_two_factors(settings, claims):
        raise refused(
            "sign-on-one-factor", "Your role requires a second factor: your organisation's sign-on must ask for one."
        )
    slug = _UNFIT.sub("-", user.lower()).strip("-_")[:63]
    if not slug:
        raise _unknown()
    name = claims.get(settings.oidc_name_claim)
    shown = shown_name(name)[:255].strip() if isinstance(name, str) else ""
    email = claims.get("email") if claims.get("email_verified") is True else None
    return ClaimedIdentity(
        str(settings.oidc_issuer), str(claims["sub"])[:255], tenant, slug, role, shown or slug,
        email if isinstance(email, str) and len(email) <= _LONGEST_EMAIL else None,
    )  # fmt: skip


async def person_of(database: Database, identity: ClaimedIdentity) -> Actor:
    """Returns the user of this identity; creates them at the first sign-on and updates them at each later one.

    Raises `refused`: unknown tenant (`sign-on-claims`), user name of another account (`sign-on-name-taken`), closed
    account (`account-closed`).
    """
    async with database.acting_as(system_actor()) as conn:
        tenant = await (await conn.execute("select id from tenants where slug = %s", (identity.tenant,))).fetchone()
    if tenant is None:
        raise _unknown()
    tenant_actor = system_actor(tenant["id"])
    async with database.acting_as(tenant_actor) as conn:
        user_id = await _linked_user(conn, identity) or await _link_user(conn, tenant_actor, identity)
        await _update_user(conn, tenant_actor, user_id, identity)
    return Actor(tenant["id"], user_id, identity.role)


async def start_login_flow(conn: Connection, state: str) -> None:
    """Stores the state's hash until the browser returns, and deletes expired ones. `conn` must act as the system actor
    without a tenant."""
    await conn.execute("delete from sso_journeys where expires_at < now()")
    await conn.execute(
        "insert into sso_journeys (tenant_id, state_hash, expires_at) "
        "values (%s, %s, now() + make_interval(secs => %s))",
        (NIL_UUID, _hash(state), LOGIN_FLOW_SECONDS),
    )


async def finish_login_flow(conn: Connection, state: str) -> bool:
    """Returns whether the state was pending, and deletes it. `conn` must act as the system actor without a tenant."""
    found = await conn.execute(
        "delete from sso_journeys where state_hash = %s and expires_at > now() returning 1", (_hash(state),)
    )
    return await found.fetchone() is not None


async def _linked_user(conn: Connection, identity: ClaimedIdentity) -> UUID | None:
    row = await (
        await conn.execute(
            "select user_id from sso_subjects where issuer = %s and subject = %s", (identity.issuer, identity.subject)
        )
    ).fetchone()
    return None if row is None else row["user_id"]


async def _link_user(conn: Connection, tenant_actor: Actor, identity: ClaimedIdentity) -> UUID:
    made = await conn.execute(
        "insert into users (tenant_id, slug, display_name, role, email, person_id) "
        "values (%(tenant)s, %(slug)s, %(name)s, %(role)s, %(email)s, coalesce((select u.person_id from users u "
        "where lower(u.email) = lower(%(email)s) and u.role = any (%(two_people)s) order by u.id limit 1), uuidv7())) "
        "on conflict (tenant_id, slug) do nothing returning id",
        {
            "tenant": tenant_actor.tenant_id,
            "slug": identity.user,
            "name": identity.display_name,
            "role": identity.role,
            "email": identity.email,
            # two people have checked the addresses of these accounts; the provider has checked the new one
            "two_people": list(PRIVILEGED),
        },
    )
    if (row := await made.fetchone()) is not None:
        await record_act(conn, tenant_actor, "user.created", ("user", row["id"]), {"role": identity.role})
        await record_change(conn, tenant_actor, row["id"], "account", identity.role)
        await propose_same_person(conn, tenant_actor, row["id"])
    else:
        found = await conn.execute(
            "select u.id from users u where u.slug = %s and u.role <> 'service' "
            "and not exists (select 1 from passwords p where p.tenant_id = u.tenant_id and p.user_id = u.id)",
            (identity.user,),
        )
        row = await found.fetchone()
    if row is None:
        raise _taken()
    bound = await conn.execute(
        "insert into sso_subjects (tenant_id, user_id, issuer, subject) values (%s, %s, %s, %s) "
        "on conflict do nothing returning 1",
        (tenant_actor.tenant_id, row["id"], identity.issuer, identity.subject),
    )
    if await bound.fetchone() is None and await _linked_user(conn, identity) != row["id"]:
        raise _taken()
    return UUID(str(row["id"]))


async def _update_user(conn: Connection, tenant_actor: Actor, user_id: UUID, identity: ClaimedIdentity) -> None:
    row = await (await conn.execute("select active, role from users where id = %s for update", (user_id,))).fetchone()
    if row is None or not row["active"]:
        raise refused("account-closed", "This account is closed: ask a person who manages accounts.")
    await conn.execute(
        "update users set role = %s, display_name = %s where id = %s", (identity.role, identity.display_name, user_id)
    )
    if row["role"] != identity.role:
        await record_act(conn, tenant_actor, "user.changed", ("user", user_id), {"active": True, "role": identity.role})
        await record_change(conn, tenant_actor, user_id, "role", identity.role)
        await end_all_sign_ins(conn, tenant_actor, user_id, "account_changed")


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()  # 256 random bits need no slow hash


def _unknown() -> WriteCareError:
    return refused(
        "sign-on-claims",
        "The provider's token names no known tenant, user and role: ask your administrator to check its claims.",
    )


def _taken() -> WriteCareError:
    return refused(
        "sign-on-name-taken", "This user name belongs to another account: ask a person who manages accounts."
    )
