"""Runs schemathesis on every operation of the OpenAPI document, in every role, with valid and invalid data.

All its checks apply: no answer is 500, and the document describes every answer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from comms.kernel.access.roles import ROLES
from comms.web.context import AppContext
from comms.web.problems import TYPE_PREFIX
from instance.provisioning import Databases
from tests import factories
from tests.comms.restartable_api import ApiProcess

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800)]

EXAMPLES = 30  # for each operation
# A valid request may still ask for something impossible: these slugs say so; `request-invalid` must not occur.
MEANT = {
    "idempotency-key-reused", "legal-basis-unsound", "period-invalid", "cursor-invalid", "text-invalid",
    "expiry-past", "expiry-invalid", "version-stale", "expiry-out-of-range", "scope-not-a-services", "code-wrong",
    "time-invalid", "duplicate-invalid", "password-guessable", "webhook-url-invalid", "webhook-address-refused",
    "direct-needs-two", "member-role", "mention-not-member",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(databases: Databases, data_dir: Path) -> Iterator[str]:
    """The address of an API process without models."""
    api = ApiProcess(data_dir, databases.app)
    api.start()
    try:
        api.wait_ready()
        yield api.address
    finally:
        api.kill()


@pytest.fixture
def schema(served: str) -> BaseSchema:
    found = schemathesis.openapi.from_url(f"{served}/openapi.json")
    found.config.update(base_url=served)
    return found


def ask(case: Case[Any], bearer: dict[str, str]) -> None:
    """Sends one request and checks its answer."""
    answer = case.call(headers=bearer)
    excluded: list[CheckFunction] = [positive_data_acceptance]
    problem = answer.json() if answer.status_code >= 400 else {}
    slug = problem.get("type", "").removeprefix(TYPE_PREFIX)
    if slug == "models-unavailable":  # there are no models here, and the document describes 503
        excluded.append(not_a_server_error)
    case.validate_response(answer, excluded_checks=excluded, headers=bearer)
    if (
        case.meta is not None
        and case.meta.generation.mode is GenerationMode.POSITIVE
        and answer.status_code in (412, 415, 422)
    ):
        assert slug in MEANT, f"{slug}: {problem}"


async def test_whatever_is_asked_the_answer_is_one_that_is_described(schema: BaseSchema, ctx: AppContext) -> None:
    first = await factories.make_actor(ctx, "care_manager")
    people = [await factories.make_user(ctx, first.tenant_id, role) for role in ROLES]
    bearers = [factories.bearer(ctx, person) for person in people]
    failures: list[str] = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        asked = given(case=operation.as_strategy(), bearer=st.sampled_from(bearers))(ask)
        try:
            settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)(asked)()
        except BaseExceptionGroup as several:
            failures += [f"{operation.label}: {one}" for one in several.exceptions]
        except Exception as failure:
            failures.append(f"{operation.label}: {failure}")
    assert failures == [], "\n\n".join(failures)
