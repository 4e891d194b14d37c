"""Generates requests from /openapi.json: every operation, with valid parameters and bodies.

A new route is included automatically. If the kind of an id is not known, the test fails; add the id's name to `KINDS`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests import factories

Ids = Mapping[str, uuid.UUID]

# Routes that need no token, on purpose.
PUBLIC: Final = {
    "GET /health",
  # how to get a token
    "POST /api/auth/sign-in", "POST /api/auth/refresh", "POST /api/auth/password-reset",
    "GET /api/auth/oidc/start", "GET /api/auth/oidc/callback", "POST /api/guests/enter",
}  # fmt: skip

# The kind of object for each id, by the name of the path parameter or field.
KINDS: Final[dict[str, str]] = {
    "tenant_id": "tenant", "home_id": "home", "user_id": "user", "session_id": "session", "recording_id": "recording",
    "alert_id": "alert", "activity_id": "ground", "processing_id": "ground", "participant": "user",
    "invitation_id": "invitation", "glass_id": "glass",
    "conversation_id": "conversation", "object_id": "user", "actor_id": "user", "cursor": "session",
    "sign_in_id": "sign_in", "account_id": "service_account", "webhook_id": "webhook", "delivery_id": "delivery",
    "message_id": "message", "reply_to": "message", "up_to": "message", "sender_id": "user",
    "attachment_id": "attachment", "hold_id": "hold", "change_id": "account_change",
    "members": "resident", "mentions": "user", "residents": "resident",
}  # fmt: skip
_LISTS_OF_IDS: Final = {"participant"}


@dataclass(frozen=True)
class Operation:
    """A method of a path with its part of the document."""

    method: str
    path: str
    described: dict[str, Any]
    document: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_names(self) -> list[str]:
        """The path parameters that are ids. Parameters with fixed values (a category) are the same in every tenant."""
        return [one["name"] for one in self.parameters("path") if "enum" not in one["schema"]]

    def parameters(self, place: str) -> list[dict[str, Any]]:
        """The parameters of the query or the headers."""
        return [parameter for parameter in self.described.get("parameters", []) if parameter["in"] == place]

    def body(self, media_type: str) -> dict[str, Any] | None:
        """The schema of the request body of this media type."""
        content = self.described.get("requestBody", {}).get("content", {})
        return content[media_type]["schema"] if media_type in content else None


def operations(document: dict[str, Any]) -> list[Operation]:
    """Every operation of the document."""
    return [
        Operation(method.upper(), path, described, document)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


def id_for(name: str, ids: Ids) -> uuid.UUID:
    """The id for this name; fails the test if the name is not in `KINDS`."""
    assert name in KINDS, f"'{name}' is new: add it to KINDS in {__file__}, with the kind of its ids"
    kind = KINDS[name]
    assert kind in ids, f"'{kind}' is new: add one in tests/comms/tenant_fixture.py"
    return ids[kind]


def request(operation: Operation, ids: Ids, words: str, *, whole: bool = True) -> dict[str, Any]:
    """A request that is valid for the schemas, with these ids, and with `words` in every free-text field.

    `whole`: with all optional fields; else only with the required ones.
    """
    example = _Examples(operation.document, ids, words, whole)
    path = operation.path
    for parameter in operation.parameters("path"):
        name = parameter["name"]
        value = id_for(name, ids) if name in operation.path_names else example.of(parameter["schema"], name)
        path = path.replace(f"{{{name}}}", str(value))
    made: dict[str, Any] = {"method": operation.method, "url": path}
    wanted = [p for p in operation.parameters("query") if p.get("required") or p["name"] in KINDS]
    made["params"] = {p["name"]: example.of(p["schema"], p["name"]) for p in wanted if whole or p.get("required")}
    if (form := operation.body("multipart/form-data")) is not None:
        fields = example.of(form, "")
        made["files"] = [("file", ("call.wav", factories.wav(0.2)))]
        made["data"] = {name: value for name, value in fields.items() if isinstance(value, str | list)}
    elif (schema := operation.body("application/json")) is not None:
        made["json"] = example.of(schema, "")
    return made


@dataclass(frozen=True)
class _Examples:
    """Generates values that match schemas."""

    document: dict[str, Any]
    ids: Ids
    words: str
    whole: bool

    def of(self, schema: dict[str, Any], name: str) -> Any:
        if "$ref" in schema:
            return self.of(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.of(next(one for one in schema[choice] if one.get("type") != "null"), name)
        if "enum" in schema or "const" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return [self.of(schema.get("items", {}), name)]
            case "string":
                return self._text(schema, name)
            case "integer" | "number":
                return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            case "boolean":
                return True
            case _:
                return self.words

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        required = schema.get("required", [])
        named = {
            name: self.of(part, name)
            for name, part in schema.get("properties", {}).items()
            if (self.whole or name in required) and part.get("format") != "binary"
        }
        return named or {"note": self.words}

    def _text(self, schema: dict[str, Any], name: str) -> str:
        if schema.get("format") == "uuid":
            return str(id_for(name, self.ids))
        if schema.get("format") == "date-time":
            return "2030-01-01T12:00:00Z"
        if "pattern" in schema:  # a slug or a code
            return f"p-{uuid.uuid4().hex[:12]}"
        return self.words[: schema.get("maxLength", len(self.words))]
