"""The routes that a guest may use: those of the session that they were invited to, and those for their own data.

A route that is not named here is refused, so that a new route is closed to guests until it is added. Row-level security
and the routes check which session and whose consent a guest may use.
"""

from typing import Final

from comms.kernel.database import Actor
from models.contract.errors import refused

_OPEN_TO_GUESTS: Final = frozenset(
    {
        ("GET", "/api/me"),
        ("POST", "/api/auth/sign-out"),
        ("GET", "/api/sessions"),
        ("GET", "/api/sessions/{session_id}"),
        ("GET", "/api/sessions/{session_id}/participants"),
        ("GET", "/api/sessions/{session_id}/participants/{user_id}"),
        ("PUT", "/api/sessions/{session_id}/participants/{user_id}"),
        ("POST", "/api/sessions/{session_id}/connection-quality"),
        ("GET", "/api/consent/status/{user_id}"),
        ("POST", "/api/consent/grant"),
        ("POST", "/api/consent/withdraw"),
        ("POST", "/api/ws/tickets"),
    }
)


def restrict_guest(actor: Actor, method: str, path: str) -> None:
    """Raises `refused` (`guest-elsewhere`) if a guest asks for a route not listed above; `path` is its pattern."""
    if actor.session_id is not None and (method, path) not in _OPEN_TO_GUESTS:
        raise refused("guest-elsewhere", "A guest's link is valid only for the session that it was made for.")
