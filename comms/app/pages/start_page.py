"""Renders the start page of a signed-in user."""

from collections.abc import Iterable
from html import escape
from typing import Final
from uuid import UUID

from comms.app.pages.layout import page
from comms.app.pages.queries import Welcome
from comms.identity.account_changes.queries import AccountChange, ChangeKind
from comms.kernel.access.roles import Role, RolePermission
from comms.safeguarding.alerts.subjects import SubjectDecision

_ROLES: Final[dict[Role, str]] = {
    "platform_admin": "platform administrator", "data_protection_officer": "data-protection officer",
    "safeguarding_lead": "safeguarding lead", "reviewer": "safeguarding reviewer", "care_manager": "care manager",
    "care_worker": "care worker", "resident": "resident", "external": "guest or relative",
    "data_scientist": "data scientist", "service": "program",
}  # fmt: skip
_WORDS: Final[dict[RolePermission, str]] = {
    "tenants.read": "see the organisations on this installation",
    "tenants.create": "add organisations",
    "homes.read": "see the homes",
    "homes.create": "add homes",
    "users.read": "see who belongs to your organisation",
    "users.create": "add people",
    "users.manage": "sign people out, ask for new passwords, close accounts",
    "users.approve": "approve changes to accounts, as the second person",
    "service_accounts.manage": "give programs their keys",
    "sessions.read": "see calls and meetings",
    "sessions.write": "arrange, run and end calls and meetings, and invite guests",
    "recordings.read": "see which recordings there are",
    "recordings.make": "record, with everybody's lawful permission",
    "recordings.listen": "listen to recordings",
    "recordings.requeue": "have a recording analysed again",
    "recordings.delete": "erase recordings",
    "transcripts.read": "read transcripts",
    "analyses.read": "read what the models make of a conversation",
    "grounds.read": "see the lawful basis of each processing",
    "grounds.decide": "decide on the lawful basis",
    "consent.read": "see what people consented to",
    "consent.record": "record that people give or refuse consent",
    "consent.audit": "read the history of consent",
    "alerts.read": "see safeguarding alerts",
    "alerts.decide": "decide on safeguarding alerts",
    "alerts.oversee": "confirm, as a second person, from whom an alert is withheld",
    "patterns.read": "see statistics of messages and concerns",
    "models.use": "use the models directly",
    "audit.read": "read who did what",
    "webhooks.read": "see the webhooks and where they send events",
    "webhooks.manage": "decide where events are sent",
    "conversations.read": "take part in conversations",
    "conversations.write": "begin conversations, add and remove members",
    "messages.read": "read messages of your conversations",
    "messages.write": "write messages",
    "glass.break": "use break-glass access in an emergency; you must give a reason, and somebody will review it",
    "glass.watch": "see and acknowledge break-glass access",
    "retention.read": "see retention periods and what is held for a case",
    "retention.decide": "decide on retention periods",
    "retention.hold": "hold data for a case, and release it",
    "operations.read": "see the health and the metrics of the installation",
}
_OWN: Final = "see and change your own consent"
_GUEST: Final = "take part in the one call that you were invited to"
_LINKS: Final = (
    '<ul>\n<li><a href="/docs">API documentation</a></li>\n'
    '<li><a href="/openapi.json">OpenAPI document</a> (JSON)</li>\n</ul>'
)
_FOOTER: Final = (
    '\n<form method="post" action="/sign-out"><p><button>Sign out</button></p></form>'
    "\n<footer><p>Software raises concerns; people decide. The audit log records what you open.</p></footer>"
)
_CHANGES: Final[dict[ChangeKind, str]] = {
    "account": "Account", "role": "Role", "password": "New password", "second_factor": "Second factor removed",
    "person": "Accounts joined",
}  # fmt: skip
_KINDS: Final = {"care_context": "care context of session", "alert": "alert"}
_DECISIONS: Final = {
    "named": "Named:", "cleared": "Cleared:", "proposed": "Proposed:", "declined": "Proposal declined:",
}  # fmt: skip
_STATUSES: Final = ("scheduled", "active", "ended", "cancelled")


def welcome_page(welcome: Welcome) -> str:
    """Renders the page and escapes all user text."""
    tenant = "" if welcome.tenant_name is None else f", {escape(welcome.tenant_name)}"
    may = [_WORDS.get(name, name) for name in welcome.permissions] if welcome.guest_of is None else [_GUEST]
    parts = [
        f"<header>\n<h1>Good to see you, {escape(welcome.display_name)}</h1>\n"
        f"<p>You are signed in as <strong>{escape(_ROLES[welcome.role])}</strong>{tenant}.</p>\n</header>",
        _second_factor(welcome),
        _notices(welcome),
        _own_changes(welcome),
        _waiting_changes(welcome),
        _proposals(welcome),
        _decisions(welcome),
        _section("holds", _holds_title(welcome), _described(_holdings(welcome))),
        _section("may", "What you may do", _listed([*may, _OWN], ' class="columns"')),
        _section("more", "For developers", _LINKS),
    ]
    return page("WriteCareConnect", "\n".join(part for part in parts if part) + _FOOTER)


def _holds_title(welcome: Welcome) -> str:
    return "Your call" if welcome.guest_of is not None else "What you may see"


def _holdings(welcome: Welcome) -> Iterable[tuple[str, str]]:
    counted = (
        ("Open safeguarding alerts", welcome.open_alerts),
        ("Homes", welcome.homes),
        ("People", welcome.people),
        ("Recordings", welcome.recordings),
    )
    yield from ((name, f"{count:,}") for name, count in counted if count is not None)
    sessions = [f"{welcome.sessions[status]:,} {status}" for status in _STATUSES if welcome.sessions.get(status)]
    yield "Calls and meetings", ", ".join(sessions) or "none"


def _notices(welcome: Welcome) -> str:
    if not welcome.broken_glass:
        return ""
    lines = [
        f"{escape(welcome.names[glass.user_id])} opened the {_KINDS[glass.object_kind]} <code>{glass.object_id}</code> "
        f"on {glass.created_at:%-d %B %Y at %H:%M} UTC. The reason given: “{escape(glass.reason)}” It is acknowledged "
        f"with <code>POST /api/break-glass/{glass.id}/acknowledge</code>."
        for glass in welcome.broken_glass
    ]
    return (
        '<section class="notice" aria-labelledby="glass">\n<h2 id="glass">The glass was broken</h2>\n'
        f"<p>Nobody has acknowledged this yet.</p>\n{_listed(lines)}\n</section>"
    )


def _second_factor(welcome: Welcome) -> str:
    if not welcome.second_factor_due:
        return ""
    return (
        '<section class="notice" aria-labelledby="factor">\n<h2 id="factor">Set up your second factor</h2>\n'
        '<p>Your role needs one before it may do anything else: <a href="/second-factor">set it up</a>.</p>\n</section>'
    )


def _own_changes(welcome: Welcome) -> str:
    if not welcome.own_changes:
        return ""
    lines = [_changed(welcome, change) for change in welcome.own_changes]
    return (
        '<section class="notice" aria-labelledby="changes">\n<h2 id="changes">Your account was changed</h2>\n'
        "<p>If you did not expect this, tell your data-protection officer.</p>\n"
        f"{_listed(lines)}\n</section>"
    )


def _waiting_changes(welcome: Welcome) -> str:
    if not welcome.waiting_changes:
        return ""
    lines = [
        f"{_changed(welcome, change)} It is approved with <code>POST /api/account-changes/{change.id}/approve</code>."
        for change in welcome.waiting_changes
    ]
    return (
        '<section class="notice" aria-labelledby="waiting">\n<h2 id="waiting">Accounts that want a second person</h2>\n'
        f"{_listed(lines)}\n</section>"
    )


def _changed(welcome: Welcome, change: AccountChange) -> str:
    who = _name(welcome, change.asked_by)
    second = f", {_name(welcome, change.decided_by)} decided" if change.decided_by is not None else ""
    return (
        f"{escape(_CHANGES[change.kind])} of {_name(welcome, change.user_id)} ({escape(_ROLES[change.role])}): {who} "
        f"asked on {change.created_at:%-d %B %Y at %H:%M} UTC{second}; it is {change.state}."
    )


def _name(welcome: Welcome, person: UUID | None) -> str:
    return "the operator of this installation" if person is None else escape(welcome.names.get(person, "somebody"))


def _proposals(welcome: Welcome) -> str:
    if not welcome.proposed_subjects:
        return ""
    lines = [
        f"{_who(welcome, one.decided_by)} proposed on {_when(one)} that the alert <code>{one.alert_id}</code> is about "
        f"{_who(welcome, one.user_id)}. Until a second person confirms it, with <code>POST /api/alerts/{one.alert_id}/"
        f"subjects/{one.user_id}/confirm</code>, it is not withheld from them."
        for one in welcome.proposed_subjects
    ]
    return (
        '<section class="notice" aria-labelledby="proposed">\n<h2 id="proposed">A second person is needed</h2>\n'
        "<p>A second person must confirm them, because few people would be left who can read these alerts.</p>\n"
        f"{_listed(lines)}\n</section>"
    )


def _decisions(welcome: Welcome) -> str:
    if not welcome.decided_subjects:
        return ""
    lines = [
        f"{_DECISIONS.get(one.change, one.change)} {_who(welcome, one.user_id)}, alert <code>{one.alert_id}</code>, by "
        f"{_who(welcome, one.decided_by)} on {_when(one)}"
        for one in welcome.decided_subjects
    ]
    return _section("subjects", "Whom alerts are about: decided in the last fourteen days", _listed(lines))


def _who(welcome: Welcome, person: UUID | None) -> str:
    return "The software" if person is None else escape(welcome.names.get(person, "somebody"))


def _when(one: SubjectDecision) -> str:
    return f"{one.decided_at:%-d %B %Y at %H:%M} UTC"


def _section(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{body}\n</section>'


def _listed(lines: Iterable[str], looks: str = "") -> str:
    return f"<ul{looks}>\n" + "\n".join(f"<li>{line}</li>" for line in lines) + "\n</ul>"


def _described(pairs: Iterable[tuple[str, str]]) -> str:
    return "<dl>\n" + "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs) + "\n</dl>"
