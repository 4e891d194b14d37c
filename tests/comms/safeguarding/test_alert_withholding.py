"""Withholding an alert from its last readers takes two people, and one overseer must always remain."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from comms.kernel.database import Actor
from comms.safeguarding.alerts.conversation_alerts import add_concerns
from comms.safeguarding.alerts.records import Alert, NewMessageEvidence
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers, recording_fixtures
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug
from tests.comms.recording_fixtures import RecordingFixture

pytestmark = pytest.mark.anyio


class Team:
    """An alert, and all users of the tenant whose role reads alerts."""

    def __init__(self, client: httpx.AsyncClient, ctx: AppContext, made: RecordingFixture, alert: Alert) -> None:
        self._client = client
        self.ctx, self.made, self.alert = ctx, made, alert
        self.people: dict[str, Actor] = {}

    async def form(self, *names: str) -> "Team":
        """Makes these users the whole team; a name is a role with a number at its end."""
        await factories.rows(
            self.ctx, self.made.lead,
            "update users set active = false "
            "where role in ('safeguarding_lead', 'reviewer', 'data_protection_officer') returning id",
        )  # fmt: skip
        for name in names:
            role = name.rstrip("123")
            self.people[name] = await factories.make_user(self.ctx, self.made.tenant_id, role)
        return self

    async def ask(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = factories.bearer(self.ctx, self.people[who])
        return await self._client.request(method, path, headers=headers, **options)

    async def name(self, who: str, whom: str) -> httpx.Response:
        body = {"user_id": str(self.people[whom].user_id)}
        return await self.ask(who, "POST", f"/api/alerts/{self.alert.id}/subjects", json=body)

    async def confirm(self, who: str, whom: str) -> httpx.Response:
        person = self.people[whom].user_id
        return await self.ask(who, "POST", f"/api/alerts/{self.alert.id}/subjects/{person}/confirm")

    async def clear(self, who: str, whom: str) -> httpx.Response:
        return await self.ask(who, "DELETE", f"/api/alerts/{self.alert.id}/subjects/{self.people[whom].user_id}")

    async def readers(self) -> set[str]:
        """Returns who of the team can read the alert."""
        path = f"/api/alerts/{self.alert.id}"
        return {name for name in self.people if (await self.ask(name, "GET", path)).status_code == 200}

    async def shown(self, who: str) -> Mapping[str, str]:
        """Returns the names of the subjects and proposed subjects that the person sees."""
        names = {str(person.user_id): name for name, person in self.people.items()}
        items = (await self.ask(who, "GET", f"/api/alerts/{self.alert.id}/subjects")).json()["items"]
        return {names[item["user_id"]]: item["standing"] for item in items if item["user_id"] in names}

    async def acts(self, who: str) -> list[tuple[str, str]]:
        """Returns the audit entries of naming that the person sees, with the named person, oldest first."""
        names = {str(person.user_id): name for name, person in self.people.items()}
        items = (await self.ask(who, "GET", "/api/audit?object_type=alert")).json()["items"]
        return [
            (item["action"].removeprefix("alert.subject."), names[item["details"]["user_id"]])
            for item in reversed(items)
            if item["action"].startswith("alert.subject.")
        ]


@pytest.fixture
async def team(client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext) -> Team:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    return Team(client, ctx, made, alert)


def status_and_standing(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["standing"]


async def test_one_reviewer_cannot_hide_an_alert_by_naming_everybody(team: Team) -> None:
    others = ("reviewer2", "safeguarding_lead1", "safeguarding_lead2", "data_protection_officer1")
    await team.form("reviewer1", *others)
    answers = {whom: status_and_standing(await team.name("reviewer1", whom)) for whom in others}
    assert answers == {
        "reviewer2": (201, "named"), "safeguarding_lead1": (201, "named"),
        "safeguarding_lead2": (201, "proposed"), "data_protection_officer1": (201, "proposed"),
    }  # fmt: skip
    assert await team.readers() == {"reviewer1", "safeguarding_lead2", "data_protection_officer1"}
    assert (
        await team.name("reviewer1", "safeguarding_lead2") is not None
    )  # naming twice does not count as a second person
    own = await team.confirm("reviewer1", "safeguarding_lead2")
    assert status_and_slug(own) == (403, "second-person-needed")
    assert await team.readers() == {"reviewer1", "safeguarding_lead2", "data_protection_officer1"}


async def test_the_officer_reads_every_naming_in_the_log_and_confirms_or_declines(team: Team) -> None:
    await team.form("reviewer1", "safeguarding_lead1", "data_protection_officer1")
    assert status_and_standing(await team.name("reviewer1", "safeguarding_lead1")) == (201, "proposed")
    assert await team.shown("data_protection_officer1") == {"safeguarding_lead1": "proposed"}
    assert await team.acts("data_protection_officer1") == [("proposed", "safeguarding_lead1")]
    assert status_and_standing(await team.confirm("data_protection_officer1", "safeguarding_lead1")) == (200, "named")
    assert await team.readers() == {"reviewer1", "data_protection_officer1"}
    assert (await team.clear("reviewer1", "safeguarding_lead1")).status_code == 204
    assert await team.acts("data_protection_officer1") == [
        ("proposed", "safeguarding_lead1"), ("named", "safeguarding_lead1"), ("cleared", "safeguarding_lead1"),
    ]  # fmt: skip
    assert status_and_standing(await team.name("reviewer1", "safeguarding_lead1")) == (201, "proposed")
    assert (await team.clear("reviewer1", "safeguarding_lead1")).status_code == 204
    assert (await team.acts("data_protection_officer1"))[-1] == ("declined", "safeguarding_lead1")
    assert await team.shown("reviewer1") == {"safeguarding_lead1": "cleared"}
    assert status_and_slug(await team.confirm("data_protection_officer1", "safeguarding_lead1")) == (404, "not-found")


async def test_who_is_proposed_goes_on_reading_the_alert_and_does_not_learn_that_they_are(
    team: Team, databases: Databases
) -> None:
    await team.form("reviewer1", "safeguarding_lead1", "data_protection_officer1")
    await team.name("reviewer1", "safeguarding_lead1")
    assert await team.shown("safeguarding_lead1") == {}
    assert await team.acts("safeguarding_lead1") == []
    lead = team.people["safeguarding_lead1"]
    for statement in (
        "select 1 from alert_subject_proposals", "select 1 from events where type = 'alert.subject.changed'",
    ):  # fmt: skip
        assert await factories.rows(team.ctx, lead, statement) == []
        assert len(await factories.rows(team.ctx, team.people["data_protection_officer1"], statement)) == 1
    assert status_and_slug(await team.confirm("safeguarding_lead1", "safeguarding_lead1")) == (404, "not-found")
    assert status_and_slug(await team.clear("safeguarding_lead1", "safeguarding_lead1")) == (404, "not-found")
    kept = await outbox_helpers.query_as_admin(
        databases, "select set_config('app.tenant_id', tenant_id::text, true) is not null, "
        "app.kept_from(type, data) as kept from events where type = 'alert.subject.changed' and tenant_id = %s",
        team.made.tenant_id,
    )  # fmt: skip
    assert lead.user_id in kept[0]["kept"]


async def test_somebody_who_watches_is_always_left_however_many_agree(team: Team) -> None:
    await team.form("reviewer1", "reviewer2", "safeguarding_lead1", "data_protection_officer1")
    assert status_and_standing(await team.name("reviewer1", "data_protection_officer1")) == (201, "named")
    # also both reviewers together cannot: the lead is the last overseer who took no part in naming
    assert status_and_slug(await team.name("reviewer1", "safeguarding_lead1")) == (409, "alert-needs-overseer")
    assert status_and_slug(await team.name("reviewer2", "safeguarding_lead1")) == (409, "alert-needs-overseer")
    assert await team.acts("safeguarding_lead1") == [("named", "data_protection_officer1")]
    external = await factories.make_user(team.ctx, team.made.tenant_id, "safeguarding_lead")
    team.people["safeguarding_lead3"] = external
    assert status_and_standing(await team.name("reviewer1", "safeguarding_lead1")) == (201, "named")
    assert await team.readers() == {"reviewer1", "reviewer2", "safeguarding_lead3"}
    assert await team.acts("safeguarding_lead3") == [
        ("named", "data_protection_officer1"), ("named", "safeguarding_lead1"),
    ]  # fmt: skip


async def test_a_lead_who_names_the_officer_is_not_the_one_who_is_left_to_watch(team: Team) -> None:
    await team.form("safeguarding_lead1", "reviewer1", "reviewer2", "data_protection_officer1")
    assert status_and_slug(await team.name("safeguarding_lead1", "data_protection_officer1")) == (
        409,
        "alert-needs-overseer",
    )
    assert status_and_standing(await team.name("reviewer1", "data_protection_officer1")) == (201, "named")


async def test_a_lead_who_names_the_officer_by_another_account_is_not_left_to_watch_either(team: Team) -> None:
    await team.form("safeguarding_lead1", "reviewer1", "reviewer2", "data_protection_officer1")
    officer = team.people["data_protection_officer1"]
    second = team.people["care_worker1"] = await factories.make_user(team.ctx, team.made.tenant_id)
    await factories.rows(
        team.ctx, officer, "update users set person_id = (select person_id from users where id = %s) where id = %s "
        "returning id", officer.user_id, second.user_id,
    )  # fmt: skip
    assert status_and_slug(await team.name("safeguarding_lead1", "care_worker1")) == (409, "alert-needs-overseer")
    # a second lead remains as overseer; after she has named the officer, no overseer remains
    team.people["safeguarding_lead2"] = await factories.make_user(team.ctx, team.made.tenant_id, "safeguarding_lead")
    assert status_and_standing(await team.name("safeguarding_lead1", "care_worker1")) == (201, "named")
    assert status_and_slug(await team.name("reviewer1", "safeguarding_lead2")) == (409, "alert-needs-overseer")


async def test_whoever_reads_no_alerts_is_named_by_one_person_and_so_is_who_steps_back(team: Team) -> None:
    await team.form("safeguarding_lead1", "data_protection_officer1")
    carer = team.people["care_worker1"] = await factories.make_user(team.ctx, team.made.tenant_id)
    assert status_and_standing(await team.name("safeguarding_lead1", "care_worker1")) == (201, "named")
    assert await team.acts("data_protection_officer1") == [("named", "care_worker1")]
    assert status_and_standing(await team.name("safeguarding_lead1", "safeguarding_lead1")) == (201, "named")
    assert await team.readers() == {"data_protection_officer1"}
    assert carer.user_id is not None


async def test_closed_accounts_are_no_able_readers(team: Team) -> None:
    await team.form("reviewer1", "reviewer2", "safeguarding_lead1", "safeguarding_lead2")
    await factories.rows(
        team.ctx, team.people["reviewer1"], "update users set active = false where id = %s returning id",
        team.people["safeguarding_lead2"].user_id,
    )  # fmt: skip
    assert status_and_standing(await team.name("reviewer1", "reviewer2")) == (201, "proposed")


async def test_the_database_keeps_the_rule_whatever_the_program_forgets(team: Team) -> None:
    await team.form("reviewer1", "safeguarding_lead1", "data_protection_officer1")
    lead, officer = team.people["safeguarding_lead1"], team.people["data_protection_officer1"]
    insert = (
        "insert into alert_subjects (tenant_id, alert_id, user_id, standing, decided_by) values (%s, %s, %s, %s, %s) "
        "on conflict (tenant_id, alert_id, user_id) do update set standing = excluded.standing returning user_id"
    )
    for whom in (lead, officer):
        for standing_ in ("named", "presumed"):
            by = team.people["reviewer1"]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await factories.rows(
                    team.ctx, by, insert, by.tenant_id, team.alert.id, whom.user_id, standing_, by.user_id
                )
    # the officer cannot name a person without a proposal, and can clear nobody
    reviewer = team.people["reviewer1"]
    for standing_ in ("named", "cleared"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(
                team.ctx, officer, insert, officer.tenant_id, team.alert.id, reviewer.user_id, standing_,
                officer.user_id,
            )  # fmt: skip
    proposal = (
        "insert into alert_subject_proposals (tenant_id, alert_id, user_id, proposed_by) values (%s, %s, %s, %s) "
        "returning user_id"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # in another user's name
        await factories.rows(
            team.ctx, reviewer, proposal, reviewer.tenant_id, team.alert.id, lead.user_id, officer.user_id
        )
    assert await team.readers() == set(team.people)


async def test_the_last_who_watches_is_only_proposed_by_the_software(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    talk = MessagingClient(client, ctx)
    officer = await factories.make_actor(ctx, "data_protection_officer")
    lead, reviewer = await talk.person(officer, "safeguarding_lead"), await talk.person(officer, "reviewer")
    conversation = await talk.begin(lead, officer, reviewer)
    sent = [await talk.say(who, conversation, "He grabbed her arm.") for who in (officer, lead, reviewer)]
    worker = await talk.person(officer, "service")
    evidence = [
        NewMessageEvidence(
            message_id=UUID(message["id"]), version=1, category="physical_abuse", severity="high", probability=0.9,
            threshold=0.4, model="safeguarding", model_version="safeguarding@1",
        )
        for message in sent
    ]  # fmt: skip
    async with worker_ctx.database.acting_as(worker) as conn:
        alert = await add_concerns(
            conn, worker, UUID(conversation.rpartition("/")[2]), evidence, {"safeguarding": "safeguarding@1"}
        )
    statuses = {
        who.role: (await talk.ask(who, "GET", f"/api/alerts/{alert.id}")).status_code
        for who in (officer, lead, reviewer)
    }
    assert statuses == {"data_protection_officer": 200, "safeguarding_lead": 404, "reviewer": 404}
    proposed = "select user_id, proposed_by from alert_subject_proposals where alert_id = %s"
    assert await factories.rows(ctx, worker, proposed, alert.id) == [{"user_id": officer.user_id, "proposed_by": None}]
    assert await factories.rows(ctx, officer, proposed, alert.id) == []


async def test_the_first_page_tells_who_watches_of_proposals_and_of_every_naming_and_clearing(team: Team) -> None:
    await team.form("reviewer1", "safeguarding_lead1", "data_protection_officer1")
    await team.name("reviewer1", "safeguarding_lead1")
    page = (await team.ask("data_protection_officer1", "GET", "/")).text
    assert "A second person is needed" in page
    assert f"/subjects/{team.people['safeguarding_lead1'].user_id}/confirm" in page
    assert str(team.alert.id) not in (await team.ask("safeguarding_lead1", "GET", "/")).text
    await team.confirm("data_protection_officer1", "safeguarding_lead1")
    await team.clear("reviewer1", "safeguarding_lead1")
    page = (await team.ask("data_protection_officer1", "GET", "/")).text
    assert "A second person is needed" not in page
    for change in ("Proposed:", "Named:", "Cleared:"):
        assert page.count(change) == 1, change
