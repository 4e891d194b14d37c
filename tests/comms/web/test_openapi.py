"""The OpenAPI document is complete, its examples are valid, and headers and limits are described where they apply."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from comms.web.problems import MEDIA_TYPE, TYPE_PREFIX
from tests.comms.openapi_requests import PUBLIC

pytestmark = pytest.mark.anyio

METHODS = ("get", "post", "put", "patch", "delete")

# Why these changes take no If-Match. Every other PUT, PATCH and DELETE must take it.
WITHOUT_VERSION = {
    (
        "delete",
        "/api/processing-activities/{activity_id}",
    ): "a lawful basis is never changed, only ended; ending is final",
    ("delete", "/api/me/sign-ins/{sign_in_id}"): "a sign-in is never changed, only ended; ending is final",
    ("delete", "/api/users/{user_id}/sign-ins"): "a sign-in is never changed, only ended; ending is final",
    ("delete", "/api/service-accounts/{account_id}"): "it is closed in any case, whatever changed before",
    ("delete", "/api/users/{user_id}/second-factor"): "it is removed in any case, whatever changed before",
    (
        "delete",
        "/api/sessions/{session_id}/invitations/{invitation_id}",
    ): "it is withdrawn in any case, whatever changed before",
    ("delete", "/api/alerts/{alert_id}/subjects/{user_id}"): "a decision about that person's part, not about the alert",
    ("put", "/api/users/{user_id}"): "it sets state and role completely, whatever changed before",
    ("delete", "/api/retention/holds/{hold_id}"): "a hold is never changed, only released; releasing is final",
    ("put", "/api/users/{user_id}/person"): "it links in any case: a second person must approve it",
    ("put", "/api/me/password"): "the current password protects it",
    ("delete", "/api/messages/{message_id}/reactions"): "the user's own reaction: nobody else changes it",
}

# These have no version, but an ETag of their bytes.
DOWNLOADS = {
    "/api/recordings/{recording_id}/download",
    "/api/recordings/{recording_id}/transcript",
    "/api/messages/attachments/{attachment_id}",
}


@pytest.fixture(scope="module")
async def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method in METHODS:
            if method in found:
                yield method, path, found[method]


def of_the_platform(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [found for found in operations(document) if found[1].startswith("/api/")]


def names(operation: dict[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", ())}


async def test_every_operation_is_named_tagged_and_put_into_words(document: dict[str, Any]) -> None:
    described_tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"].endswith((".", "`)", ")")), where
        assert set(operation["tags"]) <= described_tags, where
        assert operation["operationId"].isidentifier(), where
    identifiers = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers)


async def test_every_operation_says_how_to_sign_in_or_needs_no_token(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    for method, path, operation in of_the_platform(document):
        if f"{method.upper()} {path}" in PUBLIC:
            assert "security" not in operation, path
            continue
        assert operation["security"], path
        for requirement in operation["security"]:
            assert set(requirement) <= set(schemes), path


async def test_every_json_body_and_answer_has_an_example_that_its_schema_takes(document: dict[str, Any]) -> None:
    examples = 0
    for method, path, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [answer.get("content", {}) for answer in operation["responses"].values()]
        for content in contents:
            for media_type, described in content.items():
                if "json" not in media_type:
                    continue
                where = f"{method} {path}: {described}"
                schema = {**described["schema"], "components": document["components"]}
                errors = [error.message for error in Draft202012Validator(schema).iter_errors(described["example"])]
                assert errors == [], where
                examples += 1
    assert examples > 300


async def test_every_failure_is_a_problem_of_a_stable_type(document: dict[str, Any]) -> None:
    for method, path, operation in of_the_platform(document):
        for status, answer in operation["responses"].items():
            if status[0] in "45":
                [media_type] = answer["content"]
                example = answer["content"][media_type]["example"]
                assert (media_type, str(example["status"])) == (MEDIA_TYPE, status), f"{method} {path}"
                assert example["type"].startswith(TYPE_PREFIX)


async def test_limits_of_rate_and_size_are_said_where_they_apply(document: dict[str, Any]) -> None:
    for method, path, operation in of_the_platform(document):
        assert "429" in operation["responses"], f"{method} {path}"
        assert ("413" in operation["responses"]) == ("requestBody" in operation), f"{method} {path}"
    assert "429" not in document["paths"]["/health"]["get"]["responses"]


async def test_every_change_of_a_record_that_has_a_version_takes_if_match(document: dict[str, Any]) -> None:
    changes = [found for found in of_the_platform(document) if found[0] in ("put", "patch", "delete")]
    guarded = {(method, path) for method, path, operation in changes if "If-Match" in names(operation)}
    assert {(method, path) for method, path, _ in changes} - guarded == set(WITHOUT_VERSION)
    for method, path, operation in of_the_platform(document):
        assert ("412" in operation["responses"]) == ("If-Match" in names(operation)), f"{method} {path}"


async def test_every_reading_of_a_record_that_has_a_version_takes_if_none_match(document: dict[str, Any]) -> None:
    taking = set()
    for method, path, operation in of_the_platform(document):
        if method != "get":
            continue
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        record = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
        versioned = "version" in record.get("properties", {})
        tagged = versioned or path in DOWNLOADS
        assert ("304" in operation["responses"]) == ("If-None-Match" in names(operation)) == tagged, path
        if versioned:
            taking.add(path)
    assert {"/api/sessions/{session_id}", "/api/recordings/{recording_id}", "/api/alerts/{alert_id}"} <= taking


async def test_every_websocket_is_described_in_prose(app: FastAPI, document: dict[str, Any]) -> None:
    prose = document["info"]["description"]
    for address in ("/ws/alerts", "/ws/sessions/{session_id}", "/ws/messaging", "POST /api/ws/tickets"):
        assert address in prose
