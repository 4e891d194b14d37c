"""HTTP routes of single sign-on: redirect to the provider, handle its callback, issue our own tokens.

The browser keeps one secret in a cookie. State, nonce and PKCE verifier are derived from it, so that a code works only
in the browser that started the flow. The server stores only the state's hash, which can be used once.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse
from starlette.requests import HTTPConnection

from comms.identity.authentication.refresh_tokens import start_sign_in
from comms.identity.authentication.routes import keep_in_cookie
from comms.identity.single_sign_on import queries
from comms.identity.single_sign_on.oidc_client import Provider, invalid_sign_on
from comms.identity.single_sign_on.queries import LOGIN_FLOW_SECONDS
from comms.kernel.access.system_actor import system_actor
from comms.web.cookies import forget_cookie, read_cookie, set_cookie
from comms.web.dependencies import RATE_LIMIT_BY_ADDRESS, ContextDep
from comms.web.problems import problem_responses

router = APIRouter(
    prefix="/api/auth/oidc",
    tags=["identity"],
    default_response_class=RedirectResponse,
    dependencies=[RATE_LIMIT_BY_ADDRESS],
)

_COOKIE: Final = "wcc_sso"


def provider_of(connection: HTTPConnection) -> Provider:
    """Returns the provider client that the process opened at its start."""
    provider: Provider = connection.app.state.provider
    return provider


SignOnProvider = Annotated[Provider, Depends(provider_of)]


@router.get("/start", status_code=303, responses=problem_responses(404, 503))
async def start_sign_on(ctx: ContextDep, provider: SignOnProvider) -> RedirectResponse:
    """Redirects the browser to the provider."""
    secret = secrets.token_urlsafe(32)
    state = _derive(secret, "state")
    url = await provider.authorization_url(
        state=state, nonce=_derive(secret, "nonce"), challenge=_challenge(_derive(secret, "verifier"))
    )
    async with ctx.database.acting_as(system_actor()) as conn:
        await queries.start_login_flow(conn, state)
    response = RedirectResponse(url, status_code=303)
    # lax: the browser returns from another site
    set_cookie(response, ctx.settings, _COOKIE, secret, LOGIN_FLOW_SECONDS, same_site="lax")
    return response


@router.get("/callback", status_code=303)
async def finish_sign_on(
    request: Request,
    ctx: ContextDep,
    provider: SignOnProvider,
    state: Annotated[str, Query(max_length=255)] = "",
    code: Annotated[str, Query(max_length=4096)] = "",
) -> RedirectResponse:
    """Handles the provider's callback: signs the person in and redirects to the start page, which then requests the
    first token (`POST /api/auth/refresh`)."""
    secret = read_cookie(request, ctx.settings, _COOKIE) or ""
    if not secret or not hmac.compare_digest(_derive(secret, "state").encode(), state.encode()):
        raise invalid_sign_on("other-browser")
    async with ctx.database.acting_as(system_actor()) as conn:
        awaited = await queries.finish_login_flow(conn, state)
    if not awaited:
        raise invalid_sign_on("state-used")
    if not code:
        raise invalid_sign_on("no-code")
    claims = await provider.claims_for(code, verifier=_derive(secret, "verifier"), nonce=_derive(secret, "nonce"))
    person = await queries.person_of(ctx.database, queries.read_claims(ctx.settings, claims))
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id)) as conn:
        tokens = await start_sign_in(conn, ctx, person, "oidc")
    response = RedirectResponse("/", status_code=303)
    keep_in_cookie(response, ctx, tokens)
    forget_cookie(response, ctx.settings, _COOKIE, same_site="lax")
    return response


def _derive(secret: str, purpose: str) -> str:
    return _base64url(hmac.digest(secret.encode(), purpose.encode(), "sha256"))


def _challenge(verifier: str) -> str:
    """The PKCE code challenge (RFC 7636, S256)."""
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
