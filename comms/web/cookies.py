"""The cookies that this program sets: out of scripts' reach, for this host alone, and over TLS where there is TLS.

Over TLS every name has the prefix `__Host-`, with which a browser takes a cookie only if it is `Secure`, has no domain
and the path `/`, so that no neighbouring host can set one in its place.
"""

from typing import Final, Literal

from fastapi import Request, Response

from comms.kernel.settings import Settings

_PREFIX: Final = "__Host-"


def cookie_name(settings: Settings, name: str) -> str:
    """What the cookie is called here."""
    return f"{_PREFIX}{name}" if settings.is_encrypted else name


def read_cookie(request: Request, settings: Settings, name: str) -> str | None:
    """The cookie's value; None where the browser has none."""
    return request.cookies.get(cookie_name(settings, name))


def set_cookie(
    response: Response,
    settings: Settings,
    name: str,
    value: str,
    seconds: int,
    *,
    same_site: Literal["strict", "lax"] = "strict",
) -> None:
    """Has the browser keep the cookie for so many seconds."""
    response.set_cookie(
        cookie_name(settings, name), value, max_age=seconds, path="/", httponly=True, samesite=same_site,
        secure=settings.is_encrypted,
    )  # fmt: skip


def forget_cookie(
    response: Response, settings: Settings, name: str, *, same_site: Literal["strict", "lax"] = "strict"
) -> None:
    """Has the browser forget it."""
    response.delete_cookie(
        cookie_name(settings, name), path="/", httponly=True, samesite=same_site, secure=settings.is_encrypted
    )
