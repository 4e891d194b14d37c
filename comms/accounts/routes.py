"""A person's password and second factor; and what an administrator does when one of them is lost."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from comms.accounts import passwords, second_factors
from comms.accounts.passwords import PasswordReset
from comms.accounts.second_factors import NewSecondFactor, RecoveryCodes
from comms.database import Actor
from comms.http import Acting, InHouse, acting, acting_with, active, allowed
from comms.identity.door import door
from comms.sign_ins import entering
from comms.sign_ins.entering import PasswordChange
from comms.users.queries import read_managed_user
from models.records import Record

router = APIRouter(tags=["identity"])


class SentCode(Record):
    """A one-time code, or one to recover with."""

    code: str = Field(max_length=32, repr=False)


class Enrolment(Record):
    """Whoever has a second factor already shows it before it is replaced."""

    code: str | None = Field(default=None, max_length=32, repr=False)


@router.put("/api/me/password", status_code=204)
async def change_password(change: PasswordChange, house: InHouse, person: Annotated[Actor, active()]) -> None:
    """Sets or changes one's own password: 12 characters or more, as one likes. Ends one's other sign-ins."""
    await entering.change_password(house, person, change)


@router.post("/api/users/{user_id}/password-reset", status_code=201)
async def make_password_reset(
    user_id: UUID, request: Annotated[Acting, acting_with("users.manage")], response: Response
) -> PasswordReset:
    """A one-use token with which a person sets their first or next password; hand it over yourself."""
    await read_managed_user(request.conn, request.actor, user_id)
    response.headers["Location"] = "/api/auth/password-reset"  # where it is redeemed
    return await passwords.make_password_reset(request.conn, request.actor, user_id)


@router.post("/api/me/second-factor", status_code=201)
async def enrol_second_factor(
    sent: Enrolment, house: InHouse, person: Annotated[Actor, active()], response: Response
) -> NewSecondFactor:
    """A new authenticator's secret, shown once; it is asked for once a code has confirmed it."""
    response.headers["Location"] = "/api/me/second-factor"
    return await entering.enrol_second_factor(house, person, sent.code)


@router.post("/api/me/second-factor/confirm")
async def confirm_second_factor(sent: SentCode, request: Annotated[Acting, acting()]) -> RecoveryCodes:
    """Confirms the authenticator with a code of it; answers the codes to recover with, once."""
    return await second_factors.confirm_second_factor(request.conn, request.house.keys, request.actor, sent.code)


@router.delete("/api/users/{user_id}/second-factor", status_code=204)
async def remove_second_factor(user_id: UUID, house: InHouse, actor: Annotated[Actor, allowed("users.manage")]) -> None:
    """Takes a lost authenticator off the account of a person whom one may manage."""
    async with house.database.acting_as(actor) as conn:
        await read_managed_user(conn, actor, user_id)
    async with house.database.acting_as(door(actor.tenant_id, actor.user_id)) as conn:
        await second_factors.remove_second_factor(conn, actor, user_id)
