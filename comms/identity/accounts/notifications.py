"""Sends e-mails about an account: the one-time code, and a notice of each change (OWASP ASVS 5.0 6.3.7)."""

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
    "password": "A new password was requested for you, and two people agreed to it.",
    "second_factor": "Your second factor was removed.",
    "person": "Two of your accounts were linked to one person.",
}
_CODE: Final = """\
A person who manages accounts at {tenant} has requested a new password for you.

Open {origin}/set-password and enter:

  Organisation  {tenant_slug}
  User name     {user_slug}
  Code          {code}

You can use the code once, within {hours} hours. Nobody else has it: do not give it to anybody.
If you did not expect this, tell the data-protection officer of your organisation.
"""
_CHANGED: Final = """\
{what} To see who did it, and when, sign in at {origin}.

If you did not expect this, tell the data-protection officer of your organisation.
"""


async def send_code(conn: Connection, ctx: AppContext, user: User, code: Code) -> None:
    """Sends the whole code to the person. Raises `unavailable` (`mail-unavailable`), which rolls back the reset."""
    assert ctx.mailer is not None, "sending a code needs a mail server"
    assert user.email is not None, "sending a code needs an e-mail address"
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
    """Sends the owner a notice that their account was changed. If the e-mail fails, the change is kept."""
    if ctx.mailer is None or user.email is None:
        return
    text = _CHANGED.format(what=_WHAT[kind], origin=ctx.settings.origin)
    try:
        await ctx.mailer.send(user.email, "Your account was changed", text)
    except WriteCareError:
        _log.warning("notice of an account change could not be sent", kind=kind)
