"""Coming in with a local account: tenant, person, password and, where one is set up, a one-time code.

Whoever is refused is told the same in the same time: a wrong password, a person or a tenant that is not there, an
account that is closed. Only the right password learns that a code is wanted too.
"""

from dataclasses import dataclass
from uuid import UUID

from pydantic import Field

from comms.accounts.passwords import (
    Password,
    keep_password_hash,
    owner_of_reset,
    read_password_hash,
    redeem_password_reset,
    set_password,
    signs_on_elsewhere,
)
from comms.accounts.second_factors import NewSecondFactor, has_second_factor, take_code, wrong_code
from comms.accounts.second_factors import enrol_second_factor as enrol
from comms.audit.queries import record_act
from comms.database import Actor, Origin
from comms.house import House
from comms.identity.door import NOBODY, door
from comms.sign_ins import pauses
from comms.sign_ins.refreshing import Tokens, start_sign_in
from models.errors import Kind, WriteCareError, refused
from models.records import Record


class Credentials(Record):
    """What a person comes in with; tenant and person by their slugs."""

    tenant: str = Field(max_length=63, repr=False)
    user: str = Field(max_length=63, repr=False)
    password: str = Field(max_length=1024, repr=False)
    code: str | None = Field(default=None, max_length=32, repr=False, description="One-time or recovery code.")


class PasswordChange(Record):
    """A person's new password, with the one before it where they have one."""

    current_password: str | None = Field(default=None, max_length=1024, repr=False)
    new_password: Password = Field(repr=False)


class PasswordRedemption(Record):
    """A password set with the one-use token of an invitation or a reset."""

    token: str = Field(max_length=255, repr=False)
    new_password: Password = Field(repr=False)


@dataclass(frozen=True)
class _Account:
    """What the slugs led to: nobody's tenant, or no person, where there is none (with a password, and active)."""

    tenant_id: UUID
    person: Actor | None
    password_hash: str | None


async def sign_in(house: House, sent: Credentials, origin: Origin) -> Tokens:
    """Tokens of a new sign-in.

    Raises `unauthenticated` (`sign-in-refused`; `code-needed` to the right password alone), 429 while it has to wait.
    """
    subjects = (pauses.account(sent.tenant, sent.user), pauses.address(origin.address or ""))
    async with house.database.acting_as(door()) as conn:
        await pauses.count_attempt(conn, *subjects)
    account = await _find(house, sent)
    right = await house.passwords.matches(sent.password, account.password_hash)
    if not right or account.person is None:
        raise await _refusal(house, account, "password", origin)
    tokens = await _let_in(house, account.person, sent, origin)
    if tokens is None and sent.code is not None:
        raise await _refusal(house, account, "code", origin)
    async with house.database.acting_as(door()) as conn:
        await pauses.forgive_attempt(conn, *subjects)
        if tokens is not None:
            await pauses.forget_failures(conn, subjects[0])
    if tokens is None:
        raise WriteCareError(Kind.UNAUTHENTICATED, "code-needed", "Send the code of your second factor too.")
    return tokens


async def change_password(house: House, person: Actor, change: PasswordChange) -> None:
    """A signed-in person's new password; ends their other sign-ins.

    Raises `refused` for a program (`service-has-no-password`), whoever signs on elsewhere (`signs-on-elsewhere`) and a
    wrong current password (`password-wrong`), 429 while it has to wait.
    """
    if person.role == "service":
        raise refused("service-has-no-password", "A program signs in with its key.")
    async with house.database.acting_as(door(person.tenant_id, person.user_id)) as conn:
        stored = await read_password_hash(conn, person.user_id)
        if stored is None and await signs_on_elsewhere(conn, person):
            # or their account would outlive the one that the provider closes
            raise refused("signs-on-elsewhere", "You sign on with the provider, which keeps your password.")
    guessing = _own(person)
    if stored is not None:
        async with house.database.acting_as(door()) as conn:
            await pauses.count_attempt(conn, guessing)
        if not await house.passwords.matches(change.current_password or "", stored):
            raise refused("password-wrong", "The current password is not that one.")
    hashed = await house.passwords.hash(change.new_password)
    async with house.database.acting_as(person) as conn:
        await set_password(conn, person, hashed)
    async with house.database.acting_as(door()) as conn:
        await pauses.forget_failures(conn, guessing)


async def enrol_second_factor(house: House, person: Actor, code: str | None) -> NewSecondFactor:
    """A new authenticator's secret; whoever has one already shows a code of it, and loses it thereby.

    Raises `invalid` (`code-wrong`), 429 while it has to wait.
    """
    async with house.database.acting_as(person) as conn:
        replacing = await has_second_factor(conn, person)
    guessing = _own(person)
    if replacing:
        async with house.database.acting_as(door()) as conn:
            await pauses.count_attempt(conn, guessing)
    async with house.database.acting_as(person) as conn:
        if replacing and not await take_code(conn, house.keys, person, code or ""):
            raise wrong_code()
        enrolled = await enrol(conn, house.keys, person)
    async with house.database.acting_as(door()) as conn:
        await pauses.forget_failures(conn, guessing)
    return enrolled


async def redeem_reset(house: House, sent: PasswordRedemption) -> None:
    """Sets the password of the person whom the token was made for; raises `unauthenticated` (`reset-invalid`)."""
    owner = owner_of_reset(sent.token)
    hashed = await house.passwords.hash(sent.new_password)
    async with house.database.acting_as(owner) as conn:
        await redeem_password_reset(conn, sent.token)
        await set_password(conn, owner, hashed)


def _own(person: Actor) -> pauses.Subject:
    """What someone who is signed in, or holds their token, may guess at: counted apart from signing in."""
    return pauses.account(str(person.tenant_id), str(person.user_id))


async def _find(house: House, sent: Credentials) -> _Account:
    async with house.database.acting_as(door()) as conn:
        tenant = await (await conn.execute("select id from tenants where slug = %s", (sent.tenant,))).fetchone()
    tenant_id = NOBODY if tenant is None else tenant["id"]
    async with house.database.acting_as(door(tenant_id)) as conn:
        found = await conn.execute(
            "select u.id, u.role, p.hash from users u "
            "join passwords p on p.tenant_id = u.tenant_id and p.user_id = u.id where u.slug = %s and u.active",
            (sent.user,),
        )
        row = await found.fetchone()
    if row is None:
        return _Account(tenant_id, None, None)
    return _Account(tenant_id, Actor(tenant_id, row["id"], row["role"]), row["hash"])


async def _let_in(house: House, person: Actor, sent: Credentials, origin: Origin) -> Tokens | None:
    """Tokens for whoever brought the right password; None where a code is wanted and a good one was not sent."""
    async with house.database.acting_as(door(person.tenant_id, person.user_id, origin)) as conn:
        wanted = await has_second_factor(conn, person)
        if wanted and (sent.code is None or not await take_code(conn, house.keys, person, sent.code)):
            return None
        stored = await read_password_hash(conn, person.user_id)
        if stored is not None and house.passwords.is_outdated(stored):
            await keep_password_hash(conn, person, await house.passwords.hash(sent.password))
        return await start_sign_in(conn, house, person, "local")


async def _refusal(house: House, account: _Account, lacking: str, origin: Origin) -> WriteCareError:
    """What every refused person is told. Their tenant's audit has it, whether there is such a person or not."""
    if account.tenant_id != NOBODY:
        here = door(account.tenant_id, origin=origin)
        about = ("user", account.person.user_id) if account.person else ("tenant", account.tenant_id)
        async with house.database.acting_as(here) as conn:
            await record_act(conn, here, "sign_in.refused", about, {"lacking": lacking})
    return WriteCareError(
        Kind.UNAUTHENTICATED, "sign-in-refused", "These do not go together: tenant, person, password and code."
    )
