"""The HTML pages: start page, sign-in, sign-out, API documentation."""

from contextlib import suppress
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Header, Request, Response
from fastapi.responses import RedirectResponse

from comms.app.pages.layout import Page, api_page, sign_in_page, visitor_page
from comms.app.pages.queries import read_welcome
from comms.app.pages.start_page import welcome_page
from comms.identity.authentication.routes import COOKIE as REFRESH_COOKIE
from comms.identity.authentication.routes import browser_cookie_of, keep_in_cookie, remember_browser
from comms.identity.authentication.sign_in import Credentials, sign_in
from comms.identity.sign_ins.queries import end_sign_in
from comms.kernel.database import RequestOrigin
from comms.web.cookies import forget_cookie, read_cookie, set_cookie
from comms.web.credentials import refuse_inactive
from comms.web.dependencies import RATE_LIMIT_BY_ADDRESS, ContextDep, bearer_of, origin_of, refuse_other_origins
from comms.web.problems import status_of
from models.contract.errors import Kind, WriteCareError

router = APIRouter(include_in_schema=False, default_response_class=Page, dependencies=[RATE_LIMIT_BY_ADDRESS])

COOKIE: Final = "wcc_access"  # the cookie that holds a browser's access token


@router.get("/")
async def front_page(request: Request, ctx: ContextDep, authorization: Annotated[str | None, Header()] = None) -> str:
    """The start page of the signed-in user; for others, the visitor page."""
    token = bearer_of(authorization) or read_cookie(request, ctx.settings, COOKIE)
    if token is None:
        return visitor_page()
    try:
        actor = ctx.verifier.verify(token)
        async with ctx.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
            return welcome_page(await read_welcome(conn, actor))
    except WriteCareError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        return visitor_page()


@router.get("/sign-in")
async def sign_in_form(ctx: ContextDep) -> str:
    """The form on which a person with a local account signs in."""
    return sign_in_page(single_sign_on=ctx.settings.oidc_issuer is not None)


@router.post("/sign-in", response_model=None)
async def sign_in_by_form(
    request: Request,
    ctx: ContextDep,
    origin: Annotated[RequestOrigin, Depends(origin_of)],
    sent: Annotated[Credentials, Form()],
) -> Response:
    """Signs the person in and sets their tokens in HttpOnly cookies. On an error, shows the form with the reason."""
    refuse_other_origins(request)
    try:
        credentials = sent.model_copy(update={"code": sent.code or None})
        tokens = await sign_in(ctx, credentials, origin, browser_cookie_of(request, ctx, sent))
    except WriteCareError as error:
        elsewhere = ctx.settings.oidc_issuer is not None
        form = sign_in_page(single_sign_on=elsewhere, tenant=sent.tenant, user=sent.user, problem=error.detail)
        return Page(form, status_of(error))
    inside = RedirectResponse("/", 303)
    set_cookie(inside, ctx.settings, COOKIE, tokens.access_token, tokens.expires_in)
    keep_in_cookie(inside, ctx, tokens)
    remember_browser(inside, ctx, sent.tenant, sent.user)
    return inside


@router.post("/sign-out", response_model=None)
async def sign_out_by_form(request: Request, ctx: ContextDep) -> Response:
    """Ends the sign-in of the browser and deletes its cookies."""
    refuse_other_origins(request)
    with suppress(WriteCareError):  # the sign-in has ended already: only the cookies are left
        actor = ctx.verifier.verify(read_cookie(request, ctx.settings, COOKIE))
        async with ctx.database.acting_as(actor) as conn:
            if actor.sign_in_id is not None:
                await end_sign_in(conn, actor, actor.user_id, actor.sign_in_id, "signed_out")
    outside = RedirectResponse("/", 303)
    for name in (COOKIE, REFRESH_COOKIE):
        forget_cookie(outside, ctx.settings, name)
    return outside


@router.get("/docs")
async def docs_page(request: Request) -> str:
    """The OpenAPI document as an HTML page."""
    return api_page(request.app.openapi())
