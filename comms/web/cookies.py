"""The cookies of this program: hidden from scripts, only for this host, and only over TLS where TLS is used.

With TLS every name has the prefix `__Host-`: a browser accepts such a cookie only if it is `Secure`, has no domain and
has the path `/`. So another host of the same domain cannot set one in its place.
"""

from typing import Final, Literal

from fastapi import Request, Response

from comms.kernel.settings import Settings

_PREFIX: Final = "__Host-"


def cookie_name(settings: Settings, name: str) -> str:
    """The full name of the cookie in this installation."""
    return f"{_PREFIX}{name}" if settings.is_encrypted else name


def read_cookie(request: Request, settings: Settings, name: str) -> str | None:
    """The cookie's value; None if the browser sent none."""
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
    """Tells the browser to keep the cookie for that many seconds."""
    response.set_cookie(
        cookie_name(settings, name), value, max_age=seconds, path="/", httponly=True, samesite=same_site,
        secure=settings.is_encrypted,
    )  # fmt: skip


def forget_cookie(
    response: Response, settings: Settings, name: str, *, same_site: Literal["strict", "lax"] = "strict"
) -> None:
    """Tells the browser to delete the cookie."""
    response.delete_cookie(
        cookie_name(settings, name), path="/", httponly=True, samesite=same_site, secure=settings.is_encrypted
    )
