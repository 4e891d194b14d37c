"""Sends one recording through a running instance by its public API, as a care home's program would do it.

Used by `demo` and by `up --demo`. After the first two tokens it uses only HTTP and one WebSocket.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.call_report import ProcessedCall
from comms.safeguarding.alerts.records import AlertDetail
from models.contract.errors import unavailable
from models.contract.records import Analysis, StageTiming, Transcript

TENANT = "demo"
HOME = "The Demo House (invented)"
PURPOSES = ("record", "transcribe", "analyse")
_POLL_SECONDS = 0.25

# The corpus's roles -> the platform's account role and participant role.
_PLATFORM_ROLE = {
    "care_worker": ("care_worker", "staff"),
    "senior_carer": ("care_worker", "staff"),
    "nurse": ("care_worker", "staff"),
    "manager": ("care_manager", "staff"),
    "resident": ("resident", "resident"),
    "family": ("external", "family"),
}
_OTHER_ROLE = ("external", "professional")


@dataclass(frozen=True)
class Tokens:
    """Tokens of the two users of the demo: the home's manager, and the safeguarding lead, who may see concerns."""

    manager: str
    lead: str


@dataclass(frozen=True)
class CallSource:
    """A recording to process: its tracks (one, or one per participant) and the participants, in the tracks' order."""

    source: str
    tracks: tuple[Path, ...]
    participants: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, source: str) -> "CallSource":
        """The call of a path (`a.flac+b.flac` are tracks). Reads the participants from a `.json` beside it, if any."""
        paths = (Path(source),) if Path(source).exists() else tuple(Path(part) for part in source.split("+"))
        known = _read_participants(paths[0])
        if len(known) < len(paths):
            known = [{"role": "other", "name": f"Participant {number}"} for number in range(1, len(paths) + 1)]
        return cls(source, paths, tuple(known))


def _read_participants(path: Path) -> list[dict[str, str]]:
    """The participants, if the `.json` beside the recording has the corpus's format; otherwise an empty list."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())["participants"]
        return [{"role": str(person["role"]), "name": str(person["name"])} for person in told]
    except (OSError, ValueError, TypeError, KeyError):
        return []


async def walk(
    address: str, tokens: Tokens, call: CallSource, report_progress: Callable[[str], None] = lambda _: None
) -> ProcessedCall:
    """Creates the session with its consent, uploads, waits for the worker and fetches the results.

    Calls `report_progress` at each step. Raises `unavailable` with the platform's error text if a step fails or the
    recording is parked.
    """
    started = time.monotonic()
    async with _ApiClient(address, tokens.manager) as manager, _ApiClient(address, tokens.lead) as lead:
        report_progress("a home, a session, its participants and their consent")
        session_id, people = await _session(manager, call)
        report_progress("upload: checked, encrypted, stored")
        recording = await _upload(manager, call, session_id, people)
        stored = StageTiming(
            stage="checked, sealed and stored", audio_seconds=recording["duration_seconds"] or 0.0,
            wall_seconds=time.monotonic() - started,
        )  # fmt: skip
        report_progress("transcription and analysis")
        recording_id = recording["id"]
        await _wait_until_ready(lead, recording_id, report_progress)
        timings = [StageTiming(**one) for one in (await lead.get(f"/api/recordings/{recording_id}/timings"))["items"]]
        transcript = await lead.get(f"/api/recordings/{recording_id}/transcript")
        analysis = await lead.get(f"/api/recordings/{recording_id}/analysis")
        return ProcessedCall(
            source=call.source,
            transcript=Transcript.model_validate(transcript["transcript"]),
            analysis=Analysis.model_validate(analysis["analysis"]),
            alert=await _alert(lead, recording_id),
            timings=(stored, *timings, StageTiming(
                stage="whole walk", audio_seconds=stored.audio_seconds, wall_seconds=time.monotonic() - started,
            )),
        )  # fmt: skip


async def _session(manager: "_ApiClient", call: CallSource) -> tuple[str, list[str]]:
    """Creates a session whose participants have joined and consented. Returns its id and the participants' ids."""
    homes = (await manager.get("/api/homes"))["items"]
    home = next((one for one in homes if one["name"] == HOME), None) or await manager.post("/api/homes", {"name": HOME})
    grounds = (await manager.get("/api/processing-activities?in_force=true"))["items"]
    for purpose in PURPOSES:
        if not any(ground["activity_type"] == purpose for ground in grounds):
            why = "Talk in the home is recorded and read so that harm is heard in time."
            await manager.post(
                "/api/processing-activities", {"activity_type": purpose, "legal_basis": "consent", "purpose": why}
            )
    people = []
    for person in call.participants:
        role, _ = _PLATFORM_ROLE.get(person["role"], _OTHER_ROLE)
        account = {"display_name": person["name"], "role": role if role != "care_manager" else "care_worker"}
        people.append((await manager.post("/api/users", {**account, "home_id": home["id"]}))["id"])
    still_participating = [
        {"user_id": user_id, "participant_type": _PLATFORM_ROLE.get(person["role"], _OTHER_ROLE)[1]}
        for user_id, person in zip(people, call.participants, strict=True)
    ]
    session = await manager.post(
        "/api/sessions",
        {"session_type": "imported", "title": Path(call.source).name[:255], "home_id": home["id"],
         "recording_enabled": True, "participants": still_participating},
    )  # fmt: skip
    for user_id in people:
        for purpose in PURPOSES:
            consent = {"user_id": user_id, "purpose": purpose, "consent_method": "demo (invented)"}
            await manager.post("/api/consent/grant", consent)
    return session["id"], people


async def _upload(manager: "_ApiClient", call: CallSource, session_id: str, people: Sequence[str]) -> dict[str, Any]:
    with ExitStack() as stack:
        files = [
            ("file", (path.name, stack.enter_context(path.open("rb")), "application/octet-stream"))
            for path in call.tracks
        ]
        fields = {"participant": list(people[: len(call.tracks)])} if len(call.tracks) > 1 else {}
        return await manager.send("POST", f"/api/recordings?session_id={session_id}", files=files, data=fields)


async def _wait_until_ready(lead: "_ApiClient", recording_id: str, report_progress: Callable[[str], None]) -> None:
    """Returns when the recording is ready. Raises if it was parked, with the worker's reason."""
    seen = 0
    while True:
        recording = await lead.get(f"/api/recordings/{recording_id}")
        done = (await lead.get(f"/api/recordings/{recording_id}/timings"))["items"]
        for timing in done[seen:]:
            report_progress(f"{timing['stage']} done in {timing['wall_seconds']:.1f} s")
        seen = len(done)
        if recording["status"] == "ready":
            return
        if recording["status"] != "processing":
            raise unavailable(
                "recording-parked", f"The recording is {recording['status']}: {recording['parked_reason']}"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _alert(lead: "_ApiClient", recording_id: str) -> AlertDetail | None:
    cursor: str | None = ""
    while cursor is not None:
        page = await lead.get(f"/api/alerts?limit=100{f'&cursor={cursor}' if cursor else ''}")
        for alert in page["items"]:
            if alert["recording_id"] == recording_id:
                return AlertDetail.model_validate(await lead.get(f"/api/alerts/{alert['id']}"))
        cursor = page["next"]
    return None


class _ApiClient:
    """HTTP client of the platform for one user. A problem response becomes an error with the same text."""

    def __init__(self, address: str, token: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=httpx.Timeout(60.0, read=1800.0)
        )

    async def __aenter__(self) -> "_ApiClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        return await self.send("GET", path)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return await self.send("POST", path, json=body)

    async def send(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = await self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise unavailable(
                "platform-unreachable", f"The platform does not answer: {type(error).__name__}."
            ) from None
        if answer.is_error:
            problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            raise unavailable(
                "platform-refused", problem.get("detail") or f"{method} {path}: HTTP {answer.status_code}"
            )
        return answer.json()
