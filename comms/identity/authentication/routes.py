"""HTTP routes to sign in, refresh tokens and sign out, and to list and end one's own sign-ins.

A browser asks for the refresh token in a cookie that no script can read; a program gets it in the body. A refreshed
token goes the same way as the one before: cookie or body (ADR 0014).
"""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from comms.identity.authentication import device_cookies, refresh_tokens
from comms.identity.authentication import sign_in as entering
from comms.identity.authentication.refresh_tokens import Tokens
from comms.identity.authentication.sign_in import Credentials, PasswordRedemption
from comms.identity.sign_ins import queries
from comms.identity.sign_ins.queries import SignIn
from comms.identity.users.queries import read_managed_user
from comms.kernel.database import RequestOrigin
from comms.web.context import AppContext
from comms.web.cookies import forget_cookie, read_cookie, set_cookie
from comms.web.dependencies import (
    RATE_LIMIT_BY_ADDRESS,
    AuthorisedRequest,
    ContextDep,
    authorised,
    authorised_for,
    origin_of,
)
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from models.contract.errors import conflict
from models.contract.records import Record

router = APIRouter(tags=["identity"])

COOKIE: Final = "wcc_refresh"
OwnAccess = Annotated[AuthorisedRequest, authorised()]


class NewSignIn(Credentials):
    """Credentials, and where to return the refresh token."""

    keep_in: Literal["body", "cookie"] = "body"


class RefreshRequest(Record):
    """The refresh token. A browser omits it, because its cookie contains it."""

    refresh_token: str | None = Field(default=None, max_length=512, repr=False)


@router.post("/api/auth/sign-in", dependencies=[RATE_LIMIT_BY_ADDRESS])
async def sign_in(
    sent: NewSignIn,
    request: Request,
    ctx: ContextDep,
    origin: Annotated[RequestOrigin, Depends(origin_of)],
    response: Response,
) -> Tokens:
    """Signs in a person with a local account."""
    credentials = Credentials.model_validate(sent.model_dump(exclude={"keep_in"}))
    tokens = await entering.sign_in(ctx, credentials, origin, browser_cookie_of(request, ctx, credentials))
    if sent.keep_in == "body":
        return tokens
    remember_browser(response, ctx, sent.tenant, sent.user)
    return keep_in_cookie(response, ctx, tokens)


@router.post("/api/auth/refresh", dependencies=[RATE_LIMIT_BY_ADDRESS])
async def refresh(request: Request, ctx: ContextDep, response: Response, sent: RefreshRequest) -> Tokens:
    """Returns new tokens. A refresh token can be used once; a second use ends its sign-in."""
    if sent.refresh_token is not None:
        return await refresh_tokens.refresh(ctx, sent.refresh_token)
    cookie = read_cookie(request, ctx.settings, COOKIE)
    return keep_in_cookie(response, ctx, await refresh_tokens.refresh(ctx, cookie or ""))


@router.post("/api/auth/sign-out", status_code=204)
async def sign_out(request: OwnAccess, response: Response) -> None:
    """Ends the sign-in of the token."""
    actor = request.actor
    if actor.sign_in_id is None:
        raise conflict("no-sign-in", "This token or key has no sign-in to end: it is valid until it expires.")
    await queries.end_sign_in(request.conn, actor, actor.user_id, actor.sign_in_id, "signed_out")
    forget_cookie(response, request.ctx.settings, COOKIE)


@router.post("/api/auth/sign-out-everywhere", status_code=204)
async def sign_out_everywhere(request: OwnAccess, response: Response) -> None:
    """Ends every sign-in of the person, also this one."""
    await queries.end_all_sign_ins(request.conn, request.actor, request.actor.user_id, "signed_out_everywhere")
    forget_cookie(response, request.ctx.settings, COOKIE)


@router.post("/api/auth/password-reset", status_code=204, dependencies=[RATE_LIMIT_BY_ADDRESS])
async def redeem_password_reset(sent: PasswordRedemption, ctx: ContextDep, response: Response) -> None:
    """Sets a password with a one-time code: the one from an e-mail, or the two halves that two people handed over."""
    await entering.set_password_with_code(ctx, sent)
    remember_browser(response, ctx, sent.tenant, sent.user)


@router.get("/api/me/sign-ins")
async def list_my_sign_ins(request: OwnAccess, cursor: Cursor = None, limit: Limit = 50) -> Page[SignIn]:
    """Lists your open sign-ins, newest first."""
    mine = request.actor.user_id
    return page_of(await queries.list_sign_ins(request.conn, mine, before=cursor or MAX_UUID, limit=limit + 1), limit)


@router.delete("/api/me/sign-ins/{sign_in_id}", status_code=204)
async def end_my_sign_in(sign_in_id: UUID, request: OwnAccess) -> None:
    """Ends one of your own sign-ins."""
    await queries.end_sign_in(request.conn, request.actor, request.actor.user_id, sign_in_id, "signed_out")


@router.delete("/api/users/{user_id}/sign-ins", status_code=204)
async def sign_a_person_out(
    user_id: UUID, request: Annotated[AuthorisedRequest, authorised_for("users.manage")]
) -> None:
    """Ends every sign-in of a person whose account you may manage."""
    await read_managed_user(request.conn, request.actor, user_id)
    await queries.end_all_sign_ins(request.conn, request.actor, user_id, "signed_out_by_administrator")


def keep_in_cookie(response: Response, ctx: AppContext, tokens: Tokens) -> Tokens:
    """Sets the refresh token as a cookie that scripts cannot read, and returns the tokens without it."""
    assert tokens.refresh_token is not None
    set_cookie(response, ctx.settings, COOKIE, tokens.refresh_token, tokens.refresh_expires_in)
    return tokens.model_copy(update={"refresh_token": None})


def browser_cookie_of(request: Request, ctx: AppContext, credentials: Credentials) -> str | None:
    """Returns the device cookie of this person in the request, or None."""
    return read_cookie(request, ctx.settings, device_cookies.browser_cookie_name(credentials.tenant, credentials.user))


def remember_browser(response: Response, ctx: AppContext, tenant: str, user: str) -> None:
    """Sets the device cookie: wrong attempts of others then do not slow this person down in this browser."""
    value, seconds = device_cookies.new_browser_cookie(ctx, tenant, user)
    set_cookie(response, ctx.settings, device_cookies.browser_cookie_name(tenant, user), value, seconds)
