"""Checks whether the provider's token proves a sign-on with two factors."""

from collections.abc import Mapping
from typing import Any, Final

from comms.kernel.settings import Settings

# The values of `amr` (RFC 8176) by kind of factor: something that the person knows, has, or is.
_KINDS: Final = (
    frozenset({"pwd", "pin", "kba"}),
    frozenset({"otp", "hwk", "swk", "sc", "sms", "tel"}),
    frozenset({"face", "fpt", "iris", "retina", "vbm"}),
)


def has_two_factors(settings: Settings, claims: Mapping[str, Any]) -> bool:
    """Returns whether `amr` has factors of two kinds, `acr` is a configured value, or the settings rely on the
    provider."""
    acr, amr = claims.get("acr"), claims.get("amr")
    if settings.oidc_provider_checks_second_factor or acr in settings.oidc_second_factor_acr:
        return True
    methods = {method for method in amr if isinstance(method, str)} if isinstance(amr, list) else set()
    return "mfa" in methods or sum(not kind.isdisjoint(methods) for kind in _KINDS) > 1
