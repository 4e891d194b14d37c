"""Where a guest may go: the routes of the one session that they were invited to, and what is their own.

Whatever is not named here is refused, so that a route which somebody adds later is closed to guests until it is
named. Which session, and whose consent, is row-level security's and the routes' own affair.
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
    """Raises `refused` (`guest-elsewhere`) where a guest asks for a route that is not theirs; `path`: its pattern."""
    if actor.session_id is not None and (method, path) not in _OPEN_TO_GUESTS:
        raise refused("guest-elsewhere", "A guest's link opens the session that it was made for, and nothing else.")
