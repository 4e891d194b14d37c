"""E-mail about a person's account: the one-time code, and that somebody changed something (OWASP ASVS 5.0 6.3.7)."""

from typing import Final

import structlog

from comms.identity.account_changes.one_time_codes import Code
from comms.identity.account_changes.queries import WAITING_HOURS, ChangeKind
from comms.identity.users.queries import User
from comms.kernel.database import Connection, one
from comms.web.context import AppContext
from models.contract.errors import WriteCareError

_log = structlog.get_logger(__name__)

_WHAT: Final[dict[ChangeKind, str]] = {
    "account": "Your account was opened or closed.",
    "role": "Your role was changed.",
    "password": "A new password was asked for, and two people agreed to it.",
    "second_factor": "Your second factor was taken off.",
    "person": "Two of your accounts were joined.",
}
_CODE: Final = """\
Somebody who manages accounts at {tenant} has asked for a new password for you.

Open {origin}/set-password and type in:

  Organisation  {tenant_slug}
  User name     {user_slug}
  Code          {code}

The code is good once, for {hours} hours. Nobody else has it: do not tell it to anybody.
If you did not expect this, tell the data-protection officer of your organisation.
"""
_CHANGED: Final = """\
{what} You see who did it, and when, once you have signed in at {origin}.

If you did not expect this, tell the data-protection officer of your organisation.
"""


async def send_code(conn: Connection, ctx: AppContext, user: User, code: Code) -> None:
    """The whole code, to the person alone; raises `unavailable` (`mail-unavailable`), which undoes the reset."""
    assert ctx.mailer is not None, "a code is sent where a server is named"
    assert user.email is not None, "a code is sent to people who have an address"
    found = await conn.execute(
        "select t.name, t.slug from tenants t join users u on u.tenant_id = t.id where u.id = %s", (user.id,)
    )
    tenant = one(await found.fetchone())
    text = _CODE.format(
        tenant=tenant["name"], tenant_slug=tenant["slug"], user_slug=user.slug, code=code, hours=WAITING_HOURS,
        origin=ctx.settings.origin,
    )  # fmt: skip
    await ctx.mailer.send(user.email, "Your new password", text)


async def notify_of_change(ctx: AppContext, user: User, kind: ChangeKind) -> None:
    """That something of theirs was changed; the change stands, whether or not the e-mail is taken."""
    if ctx.mailer is None or user.email is None:
        return
    text = _CHANGED.format(what=_WHAT[kind], origin=ctx.settings.origin)
    try:
        await ctx.mailer.send(user.email, "Your account was changed", text)
    except WriteCareError:
        _log.warning("a person was not told by e-mail of a change to their account", kind=kind)
