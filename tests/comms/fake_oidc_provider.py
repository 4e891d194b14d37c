"""A real OpenID provider on loopback (oidc-provider-mock) that a test can make misbehave.

It adds PKCE (RFC 7636), which the package lacks. Tests can change its ID tokens and rotate its keys.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import flask
import oidc_provider_mock
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

ClaimsChange = Callable[[dict[str, Any], RSAKey], str]


class FakeOidcProvider:
    """The provider's address, and what a test can change."""

    def __init__(self) -> None:
        self.app = oidc_provider_mock.app()
        self.issuer = ""
        self.twist: ClaimsChange | None = None
        self.key_requests = 0
        self.twisted = 0
        self._turning = False
        self._challenges: dict[str, str] = {}
        self.app.before_request(self._before)
        self.app.after_request(self._after)

    def rotate_keys(self) -> None:
        """Signs with a new key, and publishes it, from the next request on."""
        self._turning = True

    def _before(self) -> Any:
        storage = flask.g.oidc_provider_mock_storage
        if self._turning:
            storage.jwk, self._turning = type(storage.jwk).generate_key(is_private=True), False
        self.key_requests += flask.request.path == "/jwks"
        if flask.request.path == "/oauth2/token":
            digest = hashlib.sha256(flask.request.form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if self._challenges.get(flask.request.form["code"]) != challenge:
                return {"error": "invalid_grant"}, 400
        return None

    def _after(self, response: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/authorize" and flask.request.method == "POST":
            code = parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]
            assert flask.request.args["code_challenge_method"] == "S256"
            self._challenges[code] = flask.request.args["code_challenge"]
        if flask.request.path == "/oauth2/token" and response.status_code == 200 and self.twist is not None:
            key = RSAKey.import_key(flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))
            given = json.loads(response.get_data())
            body = given["id_token"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            response.set_data(json.dumps({**given, "id_token": self.twist(claims, key)}))
            self.twisted += 1
        return response


@contextmanager
def fake_oidc_provider() -> Iterator[FakeOidcProvider]:
    """A provider on a real port until the block ends."""
    provider = FakeOidcProvider()
    server = make_server("localhost", 0, provider.app, threaded=True)
    provider.issuer = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_claims(**changed: Any) -> ClaimsChange:
    """Changes the claims of the provider's own token; None removes a claim."""

    def twist(claims: dict[str, Any], key: RSAKey) -> str:
        told = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode({"alg": "RS256"}, told, key)

    return twist
