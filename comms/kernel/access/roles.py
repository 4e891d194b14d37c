"""Permissions: the one table that says which roles hold which permission.

Row-level security sets the outer limit (the tenant; safeguarding matters only for the safeguarding team). Within it,
this table says what a role may ask of the API. Actions on a user's own data need no permission: read who they are,
see, give and withdraw their own consent, fetch a WebSocket ticket.
"""

from typing import Final, Literal, get_args

from comms.kernel.database import Actor
from models.contract.errors import WriteCareError, invalid, refused

Role = Literal[
    "platform_admin", "data_protection_officer", "safeguarding_lead", "reviewer", "care_manager", "care_worker",
    "resident", "external", "data_scientist", "service",
]  # fmt: skip
ROLES: Final[tuple[Role, ...]] = get_args(Role)

_SAFEGUARDING: Final = frozenset({"safeguarding_lead", "reviewer"})
_SAFEGUARDING_AND_DPO: Final = _SAFEGUARDING | {"data_protection_officer"}
_CARE: Final = frozenset({"care_manager", "care_worker"})
_STAFF: Final = _SAFEGUARDING_AND_DPO | _CARE | {"service"}
_EVERYONE: Final = frozenset(ROLES)

RolePermission = Literal[
    "tenants.read", "tenants.create", "homes.read", "homes.create", "users.read", "users.create", "users.manage",
    "users.approve", "service_accounts.manage",
    "sessions.read", "sessions.write", "recordings.read", "recordings.make", "recordings.listen",
    "recordings.requeue", "recordings.delete", "transcripts.read", "analyses.read",
    "grounds.read", "grounds.decide", "consent.read", "consent.record", "consent.audit",
    "alerts.read", "alerts.decide", "alerts.oversee", "patterns.read", "models.use", "audit.read",
    "webhooks.read", "webhooks.manage",
    "glass.break", "glass.watch",
    "retention.read", "retention.decide", "retention.hold", "operations.read",
    "conversations.read", "conversations.write", "messages.read", "messages.write",
]  # fmt: skip

PERMISSIONS: Final[dict[RolePermission, frozenset[str]]] = {
    "tenants.read": frozenset({"platform_admin"}),
    "tenants.create": frozenset({"platform_admin"}),
    "homes.read": _EVERYONE,
    "homes.create": frozenset({"platform_admin", "care_manager"}),
    "users.read": _STAFF | {"platform_admin"},
    "users.create": frozenset({"platform_admin", "care_manager", "safeguarding_lead", "service"}),
    # sign others out, reset passwords, close accounts, change roles: of people with a role in APPOINTABLE_ROLES
    "users.manage": frozenset({"platform_admin", "care_manager", "safeguarding_lead"}),
    # approve a change of an account as the second person (APPROVABLE_ROLES)
    "users.approve": frozenset({"platform_admin", "data_protection_officer", "care_manager", "safeguarding_lead"}),
    "service_accounts.manage": frozenset({"platform_admin"}),
    # residents and external people see only the sessions that they take part in
    # (comms/calls/sessions/queries.py)
    "sessions.read": _STAFF | {"resident", "external"},
    "sessions.write": _CARE | {"safeguarding_lead", "service"},
    "recordings.read": _STAFF,
    "recordings.make": _CARE | {"safeguarding_lead", "service"},
    "recordings.listen": _STAFF,
    "recordings.requeue": frozenset({"care_manager", "safeguarding_lead", "data_protection_officer", "service"}),
    # only roles that can see whether a safeguarding enquiry still needs the recording
    "recordings.delete": frozenset({"data_protection_officer", "safeguarding_lead"}),
    "transcripts.read": _STAFF,
    "analyses.read": _SAFEGUARDING_AND_DPO | {"service"},
    "grounds.read": _STAFF | {"platform_admin", "data_scientist"},
    "grounds.decide": frozenset({"data_protection_officer", "care_manager"}),
    "consent.read": _STAFF,
    "consent.record": _CARE | {"data_protection_officer", "safeguarding_lead", "service"},
    "consent.audit": frozenset({"data_protection_officer", "safeguarding_lead"}),
    "alerts.read": _SAFEGUARDING_AND_DPO | {"service"},
    "alerts.decide": _SAFEGUARDING,
    # approve, as the second person, a change that would withhold an alert from nearly all of its readers
    "alerts.oversee": _SAFEGUARDING_AND_DPO,
    "patterns.read": _SAFEGUARDING_AND_DPO | {"service"},
    "models.use": _SAFEGUARDING | {"service", "data_scientist", "care_manager"},
    "audit.read": frozenset({"data_protection_officer", "safeguarding_lead"}),
    # the data protection officer sees where the tenant's events are sent; the administrator decides it
    "webhooks.read": frozenset({"platform_admin", "service", "data_protection_officer"}),
    "webhooks.manage": frozenset({"platform_admin", "service"}),
    # break: read for a limited time, with a reason, what the role does not show; watch: review such accesses
    "glass.break": _SAFEGUARDING_AND_DPO | _CARE,
    "glass.watch": frozenset({"data_protection_officer", "safeguarding_lead"}),
    # retention periods, and holds on data that a case needs for longer
    "retention.read": frozenset({"data_protection_officer", "safeguarding_lead"}),
    "retention.decide": frozenset({"data_protection_officer"}),
    "retention.hold": frozenset({"data_protection_officer", "safeguarding_lead"}),
    # metrics and health of the installation: counts of all tenants together, no ids
    "operations.read": frozenset({"platform_admin", "service"}),
    # only members see a conversation; staff create it, residents and external people take part and write
    "conversations.read": _STAFF | {"resident", "external"},
    "conversations.write": _STAFF,
    "messages.read": _STAFF | {"resident", "external"},
    "messages.write": _STAFF | {"resident", "external"},
}

# Roles of people; a program gets the role `service` with its key (comms/identity/service_accounts).
_PEOPLE: Final = _EVERYONE - {"service"}

# Which roles a role may give to a person that it adds: nobody can give more rights than they are trusted with.
APPOINTABLE_ROLES: Final[dict[str, frozenset[str]]] = {
    "platform_admin": _PEOPLE,
    "care_manager": frozenset({"care_worker", "resident", "external"}),
    "safeguarding_lead": frozenset({"reviewer", "external"}),
    "service": frozenset({"care_worker", "resident", "external"}),
}

# Roles that read alerts or manage accounts: two people must create or reset such an account (docs/decisions/0034).
PRIVILEGED: Final[frozenset[Role]] = frozenset(
    {"platform_admin", "data_protection_officer", "safeguarding_lead", "reviewer", "care_manager"}
)

# Which roles an account may have if a role approves its changes as the second person.
APPROVABLE_ROLES: Final[dict[str, frozenset[str]]] = {
    "platform_admin": _EVERYONE,
    "data_protection_officer": _EVERYONE,
    "care_manager": frozenset({"care_worker", "resident", "external"}),
    "safeguarding_lead": frozenset({"reviewer", "care_worker", "resident", "external"}),
}

# Scopes that let a program read what alerts are about, or send it on: such a key needs the consent of two people.
PRIVILEGED_SCOPES: Final[frozenset[RolePermission]] = frozenset(
    {"alerts.read", "analyses.read", "patterns.read", "webhooks.manage"}
)


def role_has(role: str, permission: RolePermission) -> bool:
    """Whether the role holds the permission."""
    return role in PERMISSIONS[permission]


def actor_has(actor: Actor, permission: RolePermission) -> bool:
    """Whether the actor's role holds the permission and their scopes, if they have any, include it."""
    return role_has(actor.role, permission) and (actor.scopes is None or permission in actor.scopes)


def refuse_unless(actor: Actor, permission: RolePermission) -> None:
    """Raises `refused` if the role lacks the permission (`role-lacks-permission`), or the actor's scopes do not include
    it (`scope-lacks-permission`)."""
    if not role_has(actor.role, permission):
        holders = ", ".join(sorted(PERMISSIONS[permission]))
        raise refused(
            "role-lacks-permission", f"The role {actor.role} lacks {permission}. These roles have it: {holders}."
        )
    if not actor_has(actor, permission):
        raise refused(
            "scope-lacks-permission",
            f"This key or sign-in lacks {permission}: use a key that includes it, or set up your second factor.",
        )


def known_role(role: str) -> Role:
    """The role of this name; raises `invalid` if there is none."""
    for known in ROLES:
        if role == known:
            return known
    raise _unknown_role()


def _unknown_role() -> WriteCareError:
    return invalid("role-unknown", f"There is no such role: use one of {', '.join(ROLES)}.")
