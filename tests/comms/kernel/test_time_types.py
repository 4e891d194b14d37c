"""Times that callers send: only RFC 3339 with offset is accepted, in every request that has a time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError

from comms.kernel.time_types import Time
from comms.web.context import AppContext
from tests import factories
from tests.comms.openapi_requests import Operation, operations
from tests.comms.web.test_middleware import assert_problem

TIME: TypeAdapter[datetime] = TypeAdapter(Time)

TAKEN = {
    "2026-03-29T01:30:00Z": datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    "2026-03-29T01:30:00+01:00": datetime(2026, 3, 29, 0, 30, tzinfo=UTC),
    "2026-03-29t01:30:00.123456z": datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC),
    "2026-03-29T01:30:00.1-11:30": datetime(2026, 3, 29, 13, 0, 0, 100000, tzinfo=UTC),
    "2026-03-29T01:30:00-00:00": datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    "1900-01-01T00:00:00Z": datetime(1900, 1, 1, tzinfo=UTC),
    "2199-12-31T23:59:59Z": datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC),
}
REFUSED: list[Any] = [
    0, 100000000000, 1.5, True, "0", "100000000000", "1.5e9", "-1", "inf", "nan", "", " ", "now", "2026", "2026-03-29",
    "2026-03-29T01:30Z", "2026-03-29T01:30:00", "2026-03-29 01:30:00Z", "2026-03-29T01:30:00 01:00", "20260329T013000Z",
    "2026-W13-7T01:30:00Z", "2026-02-30T00:00:00Z", "2026-03-29T24:00:00Z", "2026-03-29T23:59:60Z",
    "2026-03-29T01:30:00+24:00",
    "2026-03-29T01:30:00+0100", "0001-01-01T00:00:00Z", "1899-12-31T23:59:59Z", "2200-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "٢٠٢٦-٠٣-٢٩T٠١:٣٠:٠٠Z", "2026-03-29T01:30:00Z\n", " 2026-03-29T01:30:00Z", "P1D",
]  # fmt: skip


@pytest.mark.parametrize("text", TAKEN)
def test_a_time_with_its_offset_is_taken(text: str) -> None:
    assert TIME.validate_python(text) == TAKEN[text]


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_time_with_an_offset_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        TIME.validate_python(value)


def test_the_programs_own_times_need_an_offset_too() -> None:
    assert TIME.validate_python(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError):
        TIME.validate_python(datetime(2026, 1, 1))


# --- over HTTP --------------------------------------------------------------------------------------------------------


def times_in(operation: Operation, schema: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if "$ref" in schema:
        schema = operation.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(choice, ()):
            yield from times_in(operation, part, place)
    for name, part in schema.get("properties", {}).items():
        yield from times_in(operation, part, (*place, name))
    if schema.get("format") == "date-time":
        yield place


ROLES = ("care_manager", "safeguarding_lead", "platform_admin")


async def asked(client: httpx.AsyncClient, bearers: list[dict[str, str]], method: str, path: str, **sent: Any) -> Any:
    """The names of the refused fields, from the first role that may send the request."""
    for headers in bearers:
        answer = await client.request(method, path, headers=headers, **sent)
        assert answer.status_code < 500, (method, path, sent)
        if answer.status_code == 422:
            return {field["location"].rpartition("/")[2] for field in answer.json().get("fields", ())}
    return set()


@pytest.mark.anyio
async def test_no_address_takes_a_bare_number_or_an_impossible_year_for_a_time(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext
) -> None:
    """The test reads all schemas, so it finds new time fields automatically."""
    tenant_id = await factories.make_tenant(ctx)
    bearers = [factories.bearer(ctx, await factories.make_user(ctx, tenant_id, role)) for role in ROLES]
    found = set()
    for operation in operations(app.openapi()):
        path = operation.path
        for name in operation.path_names:
            path = path.replace(f"{{{name}}}", "0193e5a0-0000-7000-8000-000000000000")
        queried = [one["name"] for one in operation.parameters("query") if list(times_in(operation, one["schema"]))]
        body = operation.body("application/json") or {}
        bodied = [] if path.startswith("/api/ai/") else list(times_in(operation, body))
        for value in (100000000000, "100000000000", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00"):
            for name in queried:
                sent = {"params": {name: str(value), "q": "x"}}
                assert name in await asked(client, bearers, operation.method, path, **sent), (path, name, value)
                found.add((path, name))
            for place in bodied:
                said: Any = value
                for name in reversed(place):
                    said = {name: said}
                refused = await asked(client, bearers, operation.method, path, json=said)
                assert place[-1] in refused, (path, place, value)
                found.add((path, place[-1]))
    assert {("/api/ai/risk-indicators", "since"), ("/api/audit", "until"), ("/api/messages/search", "from")} <= found
    assert {("/api/consent/grant", "expiry_date"), ("/api/sessions", "scheduled_start_time")} <= found


@pytest.mark.anyio
async def test_a_period_at_either_end_of_the_years_is_answered(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "safeguarding_lead"))
    ends = [
        ("1900-01-01T00:00:00+00:00", "1901-12-01T00:00:00Z"), ("1900-01-01T00:00:00+14:00", "1900-01-02T00:00:00Z"),
        ("2198-01-01T00:00:00Z", "2199-12-31T23:59:59-14:00"),
    ]  # fmt: skip
    for path in ("/api/ai/risk-indicators", "/api/ai/communication-patterns"):
        for since, until in ends:
            answer = await client.get(path, params={"since": since, "until": until}, headers=headers)
            assert answer.status_code == 200, (path, since)
        refused = await client.get(path, params={"since": "0001-01-01T00:00:00+00:00"}, headers=headers)
        assert_problem(refused, 422, "time-invalid")


@pytest.mark.anyio
async def test_a_key_s_end_is_told_with_its_offset(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "platform_admin"))
    soon = datetime.now(UTC) + timedelta(days=1)
    new: dict[str, Any] = {"name": "Sync", "scopes": ["sessions.read"]}
    for value in (soon.replace(tzinfo=None).isoformat(), soon.timestamp(), int(soon.timestamp())):
        answer = await client.post("/api/service-accounts", json=new | {"expires_at": value}, headers=headers)
        assert_problem(answer, 422, "time-invalid")
    kept = await client.post("/api/service-accounts", json=new | {"expires_at": soon.isoformat()}, headers=headers)
    assert kept.status_code == 201
