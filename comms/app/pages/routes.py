"""The pages for people at this address: who they are and what their tenant holds, and what can be asked here."""

from contextlib import suppress
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Header, Request, Response
from fastapi.responses import RedirectResponse

from comms.app.pages.layout import Page, api_page, sign_in_page, visitor_page
from comms.app.pages.queries import read_welcome
from comms.app.pages.start_page import welcome_page
from comms.identity.authentication.routes import COOKIE as REFRESH_COOKIE
from comms.identity.authentication.routes import keep_in_cookie, know_browser, known_cookie
from comms.identity.authentication.sign_in import Credentials, sign_in
from comms.identity.sign_ins.queries import end_sign_in
from comms.kernel.database import Origin
from comms.web.cookies import forget_cookie, read_cookie, set_cookie
from comms.web.credentials import refuse_inactive
from comms.web.dependencies import FROM_ANYBODY, InHouse, bearer_of, origin_of, refuse_other_origins
from comms.web.problems import status_of
from models.contract.errors import Kind, WriteCareError

router = APIRouter(include_in_schema=False, default_response_class=Page, dependencies=[FROM_ANYBODY])

COOKIE: Final = "wcc_access"  # a browser's access token, where it keeps one


@router.get("/")
async def front_page(request: Request, house: InHouse, authorization: Annotated[str | None, Header()] = None) -> str:
    """Who you are and what your tenant holds; for others: what this is and how to come in."""
    token = bearer_of(authorization) or read_cookie(request, house.settings, COOKIE)
    if token is None:
        return visitor_page()
    try:
        actor = house.verifier.verify(token)
        async with house.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
            return welcome_page(await read_welcome(conn, actor))
    except WriteCareError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        return visitor_page()


@router.get("/sign-in")
async def sign_in_form(house: InHouse) -> str:
    """Where a person with an account comes in by browser."""
    return sign_in_page(single_sign_on=house.settings.oidc_issuer is not None)


@router.post("/sign-in", response_model=None)
async def sign_in_by_form(
    request: Request,
    house: InHouse,
    origin: Annotated[Origin, Depends(origin_of)],
    sent: Annotated[Credentials, Form()],
) -> Response:
    """Lets the person in, and keeps their tokens in cookies that no script can read; else says why, on the form."""
    refuse_other_origins(request)
    try:
        credentials = sent.model_copy(update={"code": sent.code or None})
        tokens = await sign_in(house, credentials, origin, known_cookie(request, house, sent))
    except WriteCareError as error:
        elsewhere = house.settings.oidc_issuer is not None
        form = sign_in_page(single_sign_on=elsewhere, tenant=sent.tenant, user=sent.user, problem=error.detail)
        return Page(form, status_of(error))
    inside = RedirectResponse("/", 303)
    set_cookie(inside, house.settings, COOKIE, tokens.access_token, tokens.expires_in)
    keep_in_cookie(inside, house, tokens)
    know_browser(inside, house, sent.tenant, sent.user)
    return inside


@router.post("/sign-out", response_model=None)
async def sign_out_by_form(request: Request, house: InHouse) -> Response:
    """Ends the browser's sign-in, and forgets its cookies."""
    refuse_other_origins(request)
    with suppress(WriteCareError):  # it has ended already: what is left is to forget it
        actor = house.verifier.verify(read_cookie(request, house.settings, COOKIE))
        async with house.database.acting_as(actor) as conn:
            if actor.sign_in_id is not None:
                await end_sign_in(conn, actor, actor.user_id, actor.sign_in_id, "signed_out")
    outside = RedirectResponse("/", 303)
    for name in (COOKIE, REFRESH_COOKIE):
        forget_cookie(outside, house.settings, name)
    return outside


@router.get("/docs")
async def docs_page(request: Request) -> str:
    """The OpenAPI document as a page."""
    return api_page(request.app.openapi())
