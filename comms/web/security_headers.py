"""The security headers of every answer; they protect users who open it in a browser."""

import base64
import hashlib
from typing import Final

from starlette.types import Scope

from comms.kernel.settings import Settings

_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
    "Content-Security-Policy": _NOTHING,  # only pages may load anything; they set their own policy
}
# One year; browsers restart it with each answer.
STRICT_TRANSPORT: Final = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


def is_encrypted(scope: Scope, settings: Settings) -> bool:
    """Whether the browser uses TLS: to this process, or to the proxy at the public URL."""
    return scope.get("scheme") == "https" or settings.origin.startswith("https:")


def page_policy(style: str) -> str:
    """The Content-Security-Policy of a page without scripts and with one inline style sheet."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
