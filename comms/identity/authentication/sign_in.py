"""Coming in with a local account: tenant, person, password and, where one is set up, a one-time code.

Whoever is refused is told the same in the same time: a wrong password, a person or a tenant that is not there, an
account that is closed. Only the right password learns that a code is wanted too.
"""

from dataclasses import dataclass
from uuid import UUID

from pydantic import Field

from comms.identity.account_changes import one_time_codes
from comms.identity.authentication import throttling
from comms.identity.authentication.device_cookies import known_browser_id
from comms.identity.authentication.refresh_tokens import Tokens, start_sign_in
from comms.identity.authentication.throttling import ThrottleKeys, TooManyAttempts
from comms.identity.passwords import Password, keep_password_hash, read_password_hash, refuse_unless_local, set_password
from comms.identity.second_factors import NewSecondFactor, consume_code, has_second_factor, wrong_code
from comms.identity.second_factors import enrol_second_factor as start_second_factor
from comms.kernel.access.password_strength import read_context_words
from comms.kernel.access.system_actor import NIL_UUID, system_actor
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, RequestOrigin
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError, refused
from models.contract.records import Record


class Credentials(Record):
    """What a person comes in with; tenant and person by their slugs."""

    tenant: str = Field(max_length=63, repr=False)
    user: str = Field(max_length=63, repr=False)
    password: str = Field(max_length=1024, repr=False)
    code: str | None = Field(default=None, max_length=40, repr=False, description="One-time or recovery code.")


class PasswordChange(Record):
    """A person's new password, with the one before it where they have one."""

    current_password: str | None = Field(default=None, max_length=1024, repr=False)
    new_password: Password = Field(repr=False)


class PasswordRedemption(Record):
    """A password set with a one-time code; tenant and person by their slugs."""

    tenant: str = Field(max_length=63, repr=False)
    user: str = Field(max_length=63, repr=False)
    code: str = Field(
        max_length=80, repr=False, description="From the e-mail, or both halves, in any order, with or without gaps."
    )
    new_password: Password = Field(repr=False)


@dataclass(frozen=True)
class _Account:
    """What the slugs led to: nobody's tenant, or no person, where there is none (with a password, and active)."""

    tenant_id: UUID
    person: Actor | None
    password_hash: str | None


async def sign_in(ctx: AppContext, sent: Credentials, origin: RequestOrigin, cookie: str | None = None) -> Tokens:
    """Tokens of a new sign-in; `cookie`: what the browser shows to say that the person has signed in from it.

    Raises `unauthenticated` (`sign-in-refused`; `code-needed` to the right password alone), 429 while it has to wait,
    `unavailable` (`sign-ins-busy`).
    """
    browser = known_browser_id(ctx, sent.tenant, sent.user, cookie)
    throttle_keys = throttling.throttle_keys_of(sent.tenant, sent.user, origin.address, browser)
    await _count_attempt(ctx, throttle_keys, sent, origin)
    account = await _find_account(ctx, sent.tenant, sent.user)
    password_matches = await ctx.passwords.matches(sent.password, account.password_hash)
    if not password_matches or account.person is None:
        raise await _sign_in_refused(ctx, account, "password", origin)
    tokens = await _issue_tokens(ctx, account.person, sent, origin)
    if tokens is None and sent.code is not None:
        raise await _sign_in_refused(ctx, account, "code", origin)
    async with ctx.database.acting_as(system_actor()) as conn:
        await throttling.refund_attempt(conn, throttle_keys)
        if tokens is not None:
            await throttling.reset_count(conn, throttle_keys.enforced[0])
    if tokens is None:
        raise WriteCareError(Kind.UNAUTHENTICATED, "code-needed", "Send the code of your second factor too.")
    return tokens


async def change_password(ctx: AppContext, person: Actor, change: PasswordChange) -> None:
    """A signed-in person's new password; ends their other sign-ins.

    Raises `refused` for a program (`service-has-no-password`), whoever signs on elsewhere (`signs-on-elsewhere`) and a
    wrong current password (`password-wrong`), `invalid` (`password-guessable`), 429 while it has to wait.
    """
    if person.role == "service":
        raise refused("service-has-no-password", "A program signs in with its key.")
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id)) as conn:
        stored = await read_password_hash(conn, person.user_id)
        await refuse_unless_local(conn, ctx.settings, person.user_id)
        context = await read_context_words(conn, person.user_id)
    throttle_key = throttling.own_account_key(str(person.tenant_id), str(person.user_id))
    if stored is not None:
        async with ctx.database.acting_as(system_actor()) as conn:
            await throttling.count_against(conn, throttle_key)
        if not await ctx.passwords.matches(change.current_password or "", stored):
            raise refused("password-wrong", "The current password is not that one.")
    hashed = await ctx.passwords.hash_new(change.new_password, context)
    async with ctx.database.acting_as(person) as conn:
        await set_password(conn, person, hashed)
    async with ctx.database.acting_as(system_actor()) as conn:
        await throttling.reset_count(conn, throttle_key)


async def enrol_second_factor(ctx: AppContext, person: Actor, code: str | None) -> NewSecondFactor:
    """A new authenticator's secret; whoever has one already shows a code of it, and loses it thereby.

    Raises `invalid` (`code-wrong`), 429 while it has to wait.
    """
    async with ctx.database.acting_as(person) as conn:
        replacing = await has_second_factor(conn, person)
    throttle_key = throttling.own_account_key(str(person.tenant_id), str(person.user_id))
    if replacing:
        async with ctx.database.acting_as(system_actor()) as conn:
            await throttling.count_against(conn, throttle_key)
    async with ctx.database.acting_as(person) as conn:
        if replacing and not await consume_code(conn, ctx.keys, person, code or ""):
            raise wrong_code()
        enrolled = await start_second_factor(conn, ctx.keys, person)
    async with ctx.database.acting_as(system_actor()) as conn:
        await throttling.reset_count(conn, throttle_key)
    return enrolled


async def set_password_with_code(ctx: AppContext, sent: PasswordRedemption) -> None:
    """Sets the password of the person whom the code was made for; nothing is hashed before the code is found good.

    Raises `unauthenticated` (`reset-invalid`), `refused` (`service-has-no-password`, `signs-on-elsewhere`), `invalid`
    (`password-guessable`: the code stays good), `unavailable` (`sign-ins-busy`).
    """
    async with ctx.database.acting_as(system_actor()) as conn:
        tenant = await (await conn.execute("select id from tenants where slug = %s", (sent.tenant,))).fetchone()
    if tenant is None:
        raise one_time_codes.invalid_code()
    async with ctx.database.acting_as(system_actor(tenant["id"])) as conn:
        found = await (await conn.execute("select id from users where slug = %s", (sent.user,))).fetchone()
        if found is None or not await one_time_codes.is_valid_code(conn, found["id"], sent.code):
            raise one_time_codes.invalid_code()
        await refuse_unless_local(conn, ctx.settings, found["id"])
        context = await read_context_words(conn, found["id"])
    hashed = await ctx.passwords.hash_new(sent.new_password, context)
    owner = system_actor(tenant["id"], found["id"])
    async with ctx.database.acting_as(owner) as conn:
        await one_time_codes.redeem_code(conn, owner.user_id, sent.code)
        await set_password(conn, owner, hashed)


async def _count_attempt(
    ctx: AppContext, throttle_keys: ThrottleKeys, sent: Credentials, origin: RequestOrigin
) -> None:
    """Counts the try; the log of acts hears of refusals once a quarter of an hour for each that has to wait."""
    try:
        async with ctx.database.acting_as(system_actor()) as conn:
            await throttling.count_attempt(conn, throttle_keys)
    except TooManyAttempts as refusal:
        async with ctx.database.acting_as(system_actor()) as conn:
            noted = await throttling.claim_audit_entry(conn, refusal.key)
        if noted:
            await _audit_throttled(ctx, await _find_account(ctx, sent.tenant, sent.user), refusal.key.kind, origin)
        raise


async def _audit_throttled(ctx: AppContext, account: _Account, kind: str, origin: RequestOrigin) -> None:
    if account.tenant_id != NIL_UUID:
        tenant_actor = system_actor(account.tenant_id, origin=origin)
        about = ("user", account.person.user_id) if account.person else ("tenant", account.tenant_id)
        async with ctx.database.acting_as(tenant_actor) as conn:
            await record_act(conn, tenant_actor, "sign_in.slowed", about, {"by": kind})


async def _find_account(ctx: AppContext, tenant_slug: str, user_slug: str) -> _Account:
    async with ctx.database.acting_as(system_actor()) as conn:
        tenant = await (await conn.execute("select id from tenants where slug = %s", (tenant_slug,))).fetchone()
    tenant_id = NIL_UUID if tenant is None else tenant["id"]
    async with ctx.database.acting_as(system_actor(tenant_id)) as conn:
        found = await conn.execute(
            "select u.id, u.role, p.hash from users u "
            "join passwords p on p.tenant_id = u.tenant_id and p.user_id = u.id "
            "where u.slug = %s and u.active and u.role <> 'service'",  # a program's key has scopes, a sign-in has none
            (user_slug,),
        )
        row = await found.fetchone()
    if row is None:
        return _Account(tenant_id, None, None)
    return _Account(tenant_id, Actor(tenant_id, row["id"], row["role"]), row["hash"])


async def _issue_tokens(ctx: AppContext, person: Actor, sent: Credentials, origin: RequestOrigin) -> Tokens | None:
    """Tokens for whoever brought the right password; None where a code is wanted and a good one was not sent."""
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id, origin)) as conn:
        wanted = await has_second_factor(conn, person)
        if wanted and (sent.code is None or not await consume_code(conn, ctx.keys, person, sent.code)):
            return None
        stored = await read_password_hash(conn, person.user_id)
        if stored is not None and ctx.passwords.is_outdated(stored):
            await keep_password_hash(conn, person, await ctx.passwords.hash(sent.password))
        return await start_sign_in(conn, ctx, person, "local")


async def _sign_in_refused(
    ctx: AppContext, account: _Account, failed_factor: str, origin: RequestOrigin
) -> WriteCareError:
    """What every refused person is told. Their tenant's audit has it, whether there is such a person or not."""
    if account.tenant_id != NIL_UUID:
        tenant_actor = system_actor(account.tenant_id, origin=origin)
        about = ("user", account.person.user_id) if account.person else ("tenant", account.tenant_id)
        async with ctx.database.acting_as(tenant_actor) as conn:
            await record_act(conn, tenant_actor, "sign_in.refused", about, {"lacking": failed_factor})
    return WriteCareError(
        Kind.UNAUTHENTICATED, "sign-in-refused", "These do not go together: tenant, person, password and code."
    )
