"""The pages for people at this address: who they are and what their tenant holds, and what can be asked here."""

from typing import Annotated, Final

from fastapi import APIRouter, Cookie, Header, Request
from fastapi.responses import HTMLResponse

from comms.front.pages import api_page, visitor_page
from comms.front.queries import read_welcome
from comms.front.welcome import welcome_page
from comms.http import InHouse, bearer_of
from comms.identity.queries import refuse_inactive
from models.errors import Kind, WriteCareError

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

COOKIE: Final = "wcc_access"  # a browser's access token, where it keeps one


@router.get("/")
async def front_page(
    house: InHouse,
    authorization: Annotated[str | None, Header()] = None,
    cookie: Annotated[str | None, Cookie(alias=COOKIE)] = None,
) -> str:
    """Who you are and what your tenant holds; for others: what this is and how to come in."""
    token = bearer_of(authorization) or cookie
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


@router.get("/docs")
async def docs_page(request: Request) -> str:
    """The OpenAPI document as a page."""
    return api_page(request.app.openapi())
