"""Sends values at and beyond the limits for every parameter of every route and every header that is read: never a
500.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms.openapi_requests import Operation, operations

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

IDS = (
    "", "0", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "x" * 5000, "\x00",
    "{0193e5a0-0000-7000-8000-000000000000}", "%", "\u202e",
)  # fmt: skip
NUMBERS = (
    "",
    "-1",
    "1e309",
    "NaN",
    "9" * 30,
    "-" + "9" * 5000,
    "2147483648",
    "9223372036854775808",
    "0x10",
    "١٢",
    "1.0",
)
TIMES = (
    "", "0", "100000000000", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00", "1900-01-01T00:00:00+14:00",
    "2199-12-31T23:59:59-14:00", "-0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99",
)  # fmt: skip
TEXTS = (
    "", " ", "\x00", "a\x00b", "\u202e", "\ufffe", "x" * 5000, "'\"\\;--", "(((", "0.0.0", "1.2147483648.x",
    "0.0.ffffffff-ffff-ffff-ffff-ffffffffffff", "1.99999999999.0193e5a0-0000-7000-8000-000000000000", "[", "null",
)  # fmt: skip
HEADERS = (
    "Authorization", "Content-Type", "Content-Length", "Cookie", "Host", "Idempotency-Key", "If-Match", "If-None-Match",
    "If-Range", "Origin", "Range", "User-Agent", "X-Access-Reason", "X-Forwarded-For",
)  # fmt: skip
HEADER_VALUES = (
    b"", b" ", b"*", b"\x00", b"\xff\xfe", b"[", b"http://[", b"bytes=-", b"bytes=0-999999999999999999999", b"bytes=-0",
    b"bytes=9-1", b'"' + b"9" * 5000 + b'"', b"W/", b'W/"', b",,,", b"Bearer", b"Bearer " + b"." * 300, b"Basic x:y",
    b"multipart/form-data; boundary=" + b"b" * 3000, b"multipart/form-data; boundary=",
    b"application/json; charset=utf-99",
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=\xff", b"a=" + b"b" * 5000, b"100-continue",
    b"9" * 400, b"-1", b"chunked", b"wcc_" + b"f" * 64 + b"_x", b"wcc_access=" + b"." * 100,
)  # fmt: skip
ROLES = ("safeguarding_lead", "data_protection_officer", "care_manager", "platform_admin")


def concrete(operation: Operation) -> str:
    return re.sub(r"\{\w+\}", "0193e5a0-0000-7000-8000-000000000000", operation.path)


def values_of(schema: dict[str, Any]) -> tuple[str, ...]:
    """Values at and beyond the limits of the schema."""
    kinds = {(one.get("type"), one.get("format")) for one in (schema, *schema.get("anyOf", ()))}
    if kinds & {("integer", None), ("number", None)}:
        return NUMBERS
    if ("string", "uuid") in kinds:
        return IDS
    return TIMES if ("string", "date-time") in kinds else TEXTS


async def who_may(
    client: httpx.AsyncClient, ctx: AppContext, operation: Operation, people: list[Actor]
) -> dict[str, str]:
    """The bearer header of the first user whose role is not refused."""
    for person in people:
        headers = factories.bearer(ctx, person)
        if (await client.request(operation.method, concrete(operation), headers=headers)).status_code != 403:
            return headers
    return headers


def asked(operation: Operation) -> Iterator[tuple[str, dict[str, str]]]:
    """A request for each value in each parameter."""
    required = {p["name"]: "x" for p in operation.parameters("query") if p.get("required")}
    for parameter in operation.parameters("query"):
        for value in values_of(parameter["schema"]):
            yield concrete(operation), required | {parameter["name"]: value}
    for name in re.findall(r"\{(\w+)\}", operation.path):
        for value in filter(None, IDS):
            made = operation.path.replace(f"{{{name}}}", quote(value, safe=""))
            yield re.sub(r"\{\w+\}", "0193e5a0-0000-7000-8000-000000000000", made), required


async def test_no_value_in_an_address_is_our_failure(client: httpx.AsyncClient, app: FastAPI, ctx: AppContext) -> None:
    tenant_id = await factories.make_tenant(ctx)
    people = [await factories.make_user(ctx, tenant_id, role) for role in ROLES]
    failed, count = [], 0
    for operation in operations(app.openapi()):
        if operation.path.startswith("/api/ai/") and operation.method == "POST":
            continue  # the route calls models, and there are none here
        headers = await who_may(client, ctx, operation, people)
        for path, params in asked(operation):
            answer = await client.request(operation.method, path, params=params, headers=headers)
            count += 1
            if answer.status_code >= 500:
                failed.append((str(operation), path[-60:], {name: value[:40] for name, value in params.items()}))
    assert failed == []
    assert count > 1000


async def test_no_value_in_a_header_is_our_failure(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    signed = [(name.lower().encode(), value.encode()) for name, value in factories.bearer(ctx, manager).items()]
    failed, count = [], 0
    for method, path in (
        ("GET", "/"), ("POST", "/sign-in"), ("POST", "/api/homes"),
        ("POST", f"/api/recordings?session_id={session_id}"), ("GET", f"/api/recordings/{recording.id}/download"),
        ("PUT", f"/api/sessions/{session_id}"),
    ):  # fmt: skip
        for name in HEADERS:
            for value in HEADER_VALUES:
                key = name.lower().encode()
                kept = [header for header in [*signed, (b"host", b"writecare.test")] if header[0] != key]
                answer = await client.request(method, path, headers=[*kept, (key, value)], content=b"{}")
                count += 1
                if answer.status_code >= 500:
                    failed.append((method, path, name, value[:40]))
    assert failed == []
    assert count > 2000


async def test_a_byte_order_mark_before_a_body_is_passed_over(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    answer = await client.post(
        "/api/homes", content=b'\xef\xbb\xbf{"name": "T\xc5\xb7 Gwyn"}',
        headers=headers | {"Content-Type": "application/json"},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["name"]) == (201, "Tŷ Gwyn")
