"""HTML pages for one's own account: set a password with a one-time code, and set up a second factor."""

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field as FormField
from pydantic import ValidationError

from comms.app.pages.layout import Field, Page, form_of, page
from comms.app.pages.routes import COOKIE
from comms.identity.authentication.refresh_tokens import refresh
from comms.identity.authentication.routes import COOKIE as REFRESH_COOKIE
from comms.identity.authentication.routes import keep_in_cookie, remember_browser
from comms.identity.authentication.sign_in import PasswordRedemption, enrol_second_factor, set_password_with_code
from comms.identity.second_factors import confirm_second_factor
from comms.kernel.database import Actor
from comms.web.context import AppContext
from comms.web.cookies import read_cookie, set_cookie
from comms.web.credentials import refuse_inactive
from comms.web.dependencies import RATE_LIMIT_BY_ADDRESS, ContextDep, refuse_other_origins
from comms.web.problems import status_of
from models.contract.errors import WriteCareError
from models.contract.records import Record

router = APIRouter(include_in_schema=False, default_response_class=Page, dependencies=[RATE_LIMIT_BY_ADDRESS])

_TOO_SHORT: Final = "A password has 12 characters or more."


class TypedPassword(Record):
    """The form fields to set a password. They are checked like the body of the API route."""

    tenant: str = FormField(default="", max_length=63, repr=False)
    user: str = FormField(default="", max_length=63, repr=False)
    code: str = FormField(default="", max_length=80, repr=False)
    new_password: str = FormField(default="", max_length=1024, repr=False)


class TypedCode(Record):
    """The form field for a one-time code or a recovery code."""

    code: str = FormField(default="", max_length=40, repr=False)


@router.get("/set-password")
async def set_password_form() -> str:
    """The form on which a person sets their first or a new password."""
    return _set_password_page(TypedPassword(), "")


@router.post("/set-password", response_model=None)
async def set_password(request: Request, ctx: ContextDep, sent: Annotated[TypedPassword, Form()]) -> Response:
    """Sets the password and redirects to the sign-in form. On an error, shows the form with the reason."""
    refuse_other_origins(request)
    try:
        await set_password_with_code(ctx, PasswordRedemption.model_validate(sent.model_dump()))
    except ValidationError:
        return Page(_set_password_page(sent, _TOO_SHORT), 422)
    except WriteCareError as error:
        return Page(_set_password_page(sent, error.detail), status_of(error))
    done = RedirectResponse("/sign-in", 303)
    remember_browser(done, ctx, sent.tenant, sent.user)
    return done


@router.get("/second-factor")
async def second_factor_form() -> str:
    """The form on which a person sets up an authenticator. If they have one already, they must enter a code of it."""
    return _second_factor_page("")


@router.post("/second-factor", response_model=None)
async def begin_second_factor(request: Request, ctx: ContextDep, sent: Annotated[TypedCode, Form()]) -> Response:
    """Shows the key of the new authenticator and asks for a code of it."""
    refuse_other_origins(request)
    try:
        enrolled = await enrol_second_factor(ctx, await _signed_in(request, ctx), sent.code or None)
    except WriteCareError as error:
        return Page(_second_factor_page(error.detail), status_of(error))
    return Page(_confirm_page(enrolled.otpauth_uri, ""))


@router.post("/second-factor/confirm", response_model=None)
async def confirm(request: Request, ctx: ContextDep, sent: Annotated[TypedCode, Form()]) -> Response:
    """Turns the second factor on, shows the recovery codes once, and sets new tokens with all permissions in the
    cookies.
    """
    refuse_other_origins(request)
    try:
        person = await _signed_in(request, ctx)
        async with ctx.database.acting_as(person) as conn:
            codes = await confirm_second_factor(conn, ctx.keys, person, sent.code)
        tokens = await refresh(ctx, read_cookie(request, ctx.settings, REFRESH_COOKIE) or "")
    except WriteCareError as error:
        return Page(_confirm_page("", error.detail), status_of(error))
    done = Page(_recovery_page(codes.recovery_codes))
    set_cookie(done, ctx.settings, COOKIE, tokens.access_token, tokens.expires_in)
    keep_in_cookie(done, ctx, tokens)
    return done


async def _signed_in(request: Request, ctx: AppContext) -> Actor:
    """Returns the actor of the browser's cookie; raises `unauthenticated`."""
    person = ctx.verifier.verify(read_cookie(request, ctx.settings, COOKIE))
    async with ctx.database.acting_as(person) as conn:
        await refuse_inactive(conn, person)
    return person


def _set_password_page(typed: TypedPassword, problem: str) -> str:
    form = form_of(
        "/set-password", "Set password", problem,
        (
            Field("tenant", "Organisation", "organization", typed.tenant),
            Field("user", "User name", "username", typed.user),
            Field("code", "Code: from the e-mail, or both halves that you were given", "one-time-code", typed.code),
            Field("new_password", "New password, of 12 characters or more", "new-password", kind="password"),
        ),
    )  # fmt: skip
    advice = "<p>A good password is three or four words that are not related to each other or to you.</p>\n"
    return page("Set your password: WriteCareConnect", f"<h1>Set your password</h1>\n{advice}{form}")


def _second_factor_page(problem: str) -> str:
    advice = (
        "<p>With an authenticator on your telephone, nobody can sign in as you with only your password. You need an "
        "app that makes one-time codes.</p>\n"
    )
    code = Field("code", "A code of your present authenticator, if you have one", "one-time-code", needed=False)
    form = form_of("/second-factor", "Set up", problem, (code,))
    return page("Second factor: WriteCareConnect", f"<h1>Second factor</h1>\n{advice}{form}")


def _confirm_page(address: str, problem: str) -> str:
    key = address.partition("secret=")[2].partition("&")[0]
    shown = f"<p>Add this key to the app, as a time-based one:</p>\n<p><code>{escape(key)}</code></p>\n" if key else ""
    open_app = f'<p>On the telephone itself: <a href="{escape(address)}">open it in the app</a>.</p>\n' if key else ""
    form = form_of("/second-factor/confirm", "Turn on", problem, (Field("code", "Code", "one-time-code"),))
    return page("Second factor: WriteCareConnect", f"<h1>Second factor</h1>\n{shown}{open_app}{form}")


def _recovery_page(codes: tuple[str, ...]) -> str:
    listed = "\n".join(f"<li><code>{escape(code)}</code></li>" for code in codes)
    advice = (
        "<p>Your second factor is on. If you lose it, use one of these codes instead; each works once. Keep them.</p>"
    )
    return page(
        "Second factor: WriteCareConnect",
        f'<h1>Second factor</h1>\n{advice}\n<ul>\n{listed}\n</ul>\n<p><a href="/">Continue</a></p>',
    )
