"""OpenID Connect client of the single sign-on provider: its metadata, its keys and its ID tokens.

It sends no request before somebody signs on. Metadata and keys are cached for an hour. If a token is signed with an
unknown key, the keys are fetched again (the provider may have rotated them). This happens at most twice a minute, so
that many forged tokens do not cause many requests.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from comms.kernel.settings import Settings
from models.contract.errors import Kind, WriteCareError, missing, unavailable

# Only asymmetric algorithms, each with its hash for `at_hash`: with HS256, the client secret could sign tokens.
_HASHES: Final = {
    "RS256": "sha256", "RS384": "sha384", "RS512": "sha512", "PS256": "sha256", "PS384": "sha384", "PS512": "sha512",
    "ES256": "sha256", "ES384": "sha384", "ES512": "sha512", "Ed25519": "sha512",
}  # fmt: skip
_KEPT_SECONDS: Final = 3600.0
_KEYS_AGAIN_SECONDS: Final = 30.0
_LEEWAY_SECONDS: Final = 30
_PATIENCE: Final = httpx.Timeout(10.0)

_log = structlog.get_logger(__name__)


class Provider:
    """The single sign-on provider. `open_provider` creates one per process."""

    def __init__(
        self, settings: Settings, http: httpx.AsyncClient, keys_again_seconds: float = _KEYS_AGAIN_SECONDS
    ) -> None:
        self._settings = settings
        self._http = http
        self._keys_again_seconds = keys_again_seconds
        self._description: dict[str, Any] = {}
        self._described_at = -_KEPT_SECONDS
        self._keys = KeySet([])
        self._keys_at = -_KEPT_SECONDS

    @property
    def redirect_uri(self) -> str:
        """The URL to which the provider redirects the browser. It must be registered with the provider."""
        return f"{self._settings.origin}/api/auth/oidc/callback"

    async def authorization_url(self, *, state: str, nonce: str, challenge: str) -> str:
        """Returns the URL to redirect the browser to. Raises `missing` without a configured provider, `unavailable` if
        it is down."""
        asked = {
            "response_type": "code", "client_id": self._settings.oidc_client_id, "redirect_uri": self.redirect_uri,
            "scope": self._settings.oidc_scopes, "state": state, "nonce": nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        if self._settings.oidc_second_factor_acr:
            asked["acr_values"] = " ".join(self._settings.oidc_second_factor_acr)
        endpoint = str((await self._described())["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def claims_for(self, code: str, *, verifier: str, nonce: str) -> dict[str, Any]:
        """Exchanges the code and returns the verified claims; raises `unauthenticated` (`sign-on-invalid`)."""
        given = await self._tokens(code, verifier)
        token, access_token = given.get("id_token"), given.get("access_token")
        if not isinstance(token, str):
            raise invalid_sign_on("no-id-token")
        try:
            return await self._verified(token, access_token, nonce)
        except (JoseError, ValueError, TypeError) as error:
            raise invalid_sign_on(type(error).__name__) from None

    async def _tokens(self, code: str, verifier: str) -> dict[str, Any]:
        described = await self._described()
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }  # fmt: skip
        client_id, secret = str(self._settings.oidc_client_id), self._settings.oidc_client_secret
        auth: httpx.Auth = httpx.Auth()  # adds no credentials
        if secret is None:
            form["client_id"] = client_id
        elif "client_secret_basic" in described.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            auth = httpx.BasicAuth(quote(client_id, safe=""), quote(secret.get_secret_value(), safe=""))
        else:
            form |= {"client_id": client_id, "client_secret": secret.get_secret_value()}
        endpoint = str(described["token_endpoint"])
        try:
            answer = await self._http.post(endpoint, data=form, auth=auth)
            given = answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            raise _provider_unreachable(error) from None
        if not isinstance(given, dict):
            raise invalid_sign_on(f"token-endpoint-{answer.status_code}")
        return given

    async def _verified(self, token: str, access_token: object, nonce: str) -> dict[str, Any]:
        await self._fetch_keys(older_than=_KEPT_SECONDS)
        try:
            checked = jwt.decode(token, self._keys, algorithms=list(_HASHES))
        except (JoseError, ValueError):
            if not await self._fetch_keys(older_than=self._keys_again_seconds):
                raise
            checked = jwt.decode(token, self._keys, algorithms=list(_HASHES))
        claims = checked.claims
        jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": str(self._settings.oidc_issuer)},
            aud={"essential": True, "value": str(self._settings.oidc_client_id)},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True}, exp={"essential": True}, iat={"essential": True},
        ).validate(claims)  # fmt: skip
        self._refuse_other_party(claims)
        if "at_hash" in claims:
            _refuse_other_token(claims["at_hash"], access_token, _HASHES[checked.header["alg"]])
        return claims

    def _refuse_other_party(self, claims: Mapping[str, Any]) -> None:
        """A token for several audiences must name this client in `azp` (OpenID Connect Core 3.1.3.7, 4 and 5)."""
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if ("azp" in claims or several) and claims.get("azp") != self._settings.oidc_client_id:
            raise ValueError("issued to another party")

    async def _described(self) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer
        if issuer is None or self._settings.oidc_client_id is None:
            raise missing("single sign-on provider")
        if time.monotonic() - self._described_at >= _KEPT_SECONDS:
            described = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if described.get("issuer") != issuer:
                raise unavailable(
                    "sign-on-provider-other", "The provider's issuer differs from the setting oidc_issuer: correct it."
                )
            self._description, self._described_at = described, time.monotonic()
        return self._description

    async def _fetch_keys(self, *, older_than: float) -> bool:
        """Fetches the provider's keys if the cached ones are older than this; returns whether it did."""
        if time.monotonic() - self._keys_at < older_than:
            return False
        published = (await self._get(str((await self._described())["jwks_uri"]))).get("keys", [])
        usable = [key for key in published if key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"]
        self._keys, self._keys_at = KeySet.import_key_set({"keys": usable}), time.monotonic()
        return True

    async def _get(self, url: str) -> dict[str, Any]:
        try:
            found = (await self._http.get(url)).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise _provider_unreachable(error) from None
        if not isinstance(found, dict):
            raise _provider_unreachable(TypeError())
        return found


@asynccontextmanager
async def open_provider(settings: Settings, keys_again_seconds: float = _KEYS_AGAIN_SECONDS) -> AsyncIterator[Provider]:
    """Opens the client of the configured provider until the block ends. It connects only at the first request."""
    async with httpx.AsyncClient(timeout=_PATIENCE, follow_redirects=False, trust_env=False) as http:
        yield Provider(settings, http, keys_again_seconds)


def invalid_sign_on(reason: str) -> WriteCareError:
    """The error for an invalid sign-on flow or token. `reason` is a code that goes only to the log."""
    _log.warning("sign-on refused", reason=reason)
    return WriteCareError(
        Kind.UNAUTHENTICATED, "sign-on-invalid", "This sign-on is invalid or has expired: go to the sign-in page again."
    )


def _refuse_other_token(at_hash: object, access_token: object, algorithm: str) -> None:
    """Checks `at_hash`, the left half of the access token's hash (OpenID Connect Core 3.1.3.6)."""
    digest = hashlib.new(algorithm, str(access_token).encode()).digest()
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if not hmac.compare_digest(str(at_hash).encode(), expected.encode()):
        raise ValueError("made for another access token")


def _provider_unreachable(error: Exception) -> WriteCareError:
    _log.warning("sign-on provider did not answer", error=type(error).__name__)
    return unavailable("sign-on-provider-silent", "The single sign-on provider does not answer: try again shortly.")
