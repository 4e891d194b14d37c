"""A tenant in which something of everything has happened: what tests of isolation look for from next door."""

import uuid
from dataclasses import dataclass

from comms.alerts import queries as alerts
from comms.alerts.records import NewReview
from comms.database import Actor
from comms.events.tickets import make_ticket
from comms.homes.queries import NewHome, create_home
from comms.house import House
from comms.identity.roles import ROLES
from comms.timings.queries import save_timings
from models.records import StageTiming
from tests import factories
from tests.comms import walked


@dataclass(frozen=True)
class Neighbour:
    """A tenant, somebody in each role, and an id of everything."""

    tenant_id: uuid.UUID
    people: dict[str, Actor]
    ids: dict[str, uuid.UUID]


async def make_neighbour(house: House, worker_house: House) -> Neighbour:
    """A home, people, a session with a read recording, an alert that was looked at, a ground, consent, a ticket."""
    made, alert = await walked.make_alert(house, worker_house)
    people: dict[str, Actor] = {role: await factories.make_user(house, made.tenant_id, role) for role in ROLES}
    officer, manager = people["data_protection_officer"], people["care_manager"]
    ground = await factories.put_in_force(house, officer, "record")
    await factories.grant(house, manager, made.people["S2"], "record")
    async with house.database.acting_as(manager) as conn:
        home = await create_home(conn, manager, NewHome(name=f"Home {uuid.uuid4()}"))
        await make_ticket(conn, manager)
    async with house.database.acting_as(made.lead) as conn:
        await alerts.view_alert(conn, made.lead, alert.id)
        await alerts.review_alert(conn, made.lead, alert.id, NewReview(decision="escalate", reason="Look at once."))
    async with worker_house.database.acting_as(made.worker) as conn:
        timing = StageTiming(stage="decoded", audio_seconds=1.0, wall_seconds=1.0)
        await save_timings(conn, made.worker, made.recording_id, [timing])
    ids = {
        "tenant": made.tenant_id, "home": home.id, "user": made.people["S2"].user_id, "session": made.session_id,
        "recording": made.recording_id, "alert": alert.id, "ground": ground.id,
    }  # fmt: skip
    return Neighbour(made.tenant_id, people, ids)
