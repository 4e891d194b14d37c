"""Sign-in with a local account: tenant, user, password and, if it is set up, a one-time code.

Every refusal has the same answer after the same time: for a wrong password, an unknown user or tenant, and a closed
account. Only a request with the right password learns that a code is also required.
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
    """The credentials of a sign-in. Tenant and user are slugs."""

    tenant: str = Field(max_length=63, repr=False)
    user: str = Field(max_length=63, repr=False)
    password: str = Field(max_length=1024, repr=False)
    code: str | None = Field(default=None, max_length=40, repr=False, description="One-time or recovery code.")


class PasswordChange(Record):
    """A person's new password, and the current one if they have one."""

    current_password: str | None = Field(default=None, max_length=1024, repr=False)
    new_password: Password = Field(repr=False)


class PasswordRedemption(Record):
    """A one-time code and the new password to set with it. Tenant and user are slugs."""

    tenant: str = Field(max_length=63, repr=False)
    user: str = Field(max_length=63, repr=False)
    code: str = Field(
        max_length=80, repr=False, description="From the e-mail, or both halves, in any order, with or without gaps."
    )
    new_password: Password = Field(repr=False)


@dataclass(frozen=True)
class _Account:
    """The account found for the slugs. Unknown tenant: nil UUID. No active user with a password: `person` is None."""

    tenant_id: UUID
    person: Actor | None
    password_hash: str | None


async def sign_in(ctx: AppContext, sent: Credentials, origin: RequestOrigin, cookie: str | None = None) -> Tokens:
    """Checks the credentials and returns the tokens of a new sign-in. `cookie` is the browser's device cookie.

    Raises `unauthenticated` (`sign-in-refused`; `code-needed` only after the right password), 429 if it is throttled,
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
        raise WriteCareError(Kind.UNAUTHENTICATED, "code-needed", "Also send the code of your second factor.")
    return tokens


async def change_password(ctx: AppContext, person: Actor, change: PasswordChange) -> None:
    """Changes the password of a signed-in person and ends their other sign-ins.

    Raises `refused` for a service account (`service-has-no-password`), a person who uses single sign-on
    (`signs-on-elsewhere`) and a wrong current password (`password-wrong`), `invalid` (`password-guessable`), 429 if it
    is throttled.
    """
    if person.role == "service":
        raise refused("service-has-no-password", "A service account signs in with its key, not with a password.")
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id)) as conn:
        stored = await read_password_hash(conn, person.user_id)
        await refuse_unless_local(conn, ctx.settings, person.user_id)
        context = await read_context_words(conn, person.user_id)
    throttle_key = throttling.own_account_key(str(person.tenant_id), str(person.user_id))
    if stored is not None:
        async with ctx.database.acting_as(system_actor()) as conn:
            await throttling.count_against(conn, throttle_key)
        if not await ctx.passwords.matches(change.current_password or "", stored):
            raise refused("password-wrong", "The current password is wrong: enter it again.")
    hashed = await ctx.passwords.hash_new(change.new_password, context)
    async with ctx.database.acting_as(person) as conn:
        await set_password(conn, person, hashed)
    async with ctx.database.acting_as(system_actor()) as conn:
        await throttling.reset_count(conn, throttle_key)


async def enrol_second_factor(ctx: AppContext, person: Actor, code: str | None) -> NewSecondFactor:
    """Returns the secret of a new authenticator. To replace one, the person must send a code of the old one.

    Raises `invalid` (`code-wrong`), 429 if it is throttled.
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
    """Sets the password of the person for whom the code was made. Hashes the password only after it has checked the
    code.

    Raises `unauthenticated` (`reset-invalid`), `refused` (`service-has-no-password`, `signs-on-elsewhere`), `invalid`
    (`password-guessable`: the code stays valid), `unavailable` (`sign-ins-busy`).
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
    """Counts the attempt. Writes an audit entry of a throttled one, at most every 15 minutes per throttle key."""
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
            "where u.slug = %s and u.active and u.role <> 'service'",  # a sign-in has no scopes, unlike a key
            (user_slug,),
        )
        row = await found.fetchone()
    if row is None:
        return _Account(tenant_id, None, None)
    return _Account(tenant_id, Actor(tenant_id, row["id"], row["role"]), row["hash"])


async def _issue_tokens(ctx: AppContext, person: Actor, sent: Credentials, origin: RequestOrigin) -> Tokens | None:
    """Returns tokens after the right password, or None if a code is required and no valid one was sent."""
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
    """Returns the same error for every refusal. Writes an audit entry in the tenant, even if the user does not
    exist."""
    if account.tenant_id != NIL_UUID:
        tenant_actor = system_actor(account.tenant_id, origin=origin)
        about = ("user", account.person.user_id) if account.person else ("tenant", account.tenant_id)
        async with ctx.database.acting_as(tenant_actor) as conn:
            await record_act(conn, tenant_actor, "sign_in.refused", about, {"lacking": failed_factor})
    return WriteCareError(
        Kind.UNAUTHENTICATED, "sign-in-refused", "Sign-in failed: tenant, user, password or code is wrong."
    )
