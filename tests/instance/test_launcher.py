"""The whole system under its launcher: found, asked, killed in parts, ended."""

import asyncio
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cli.api_walkthrough import PURPOSES, CallSource, Tokens, walk
from cli.demo import SAMPLE
from comms.kernel.settings import Settings
from instance.launcher import free_port
from instance.provisioning import connections
from instance.run_file import InstanceInfo, administrator_url, is_locked, read_instance_info
from models.contract.endpoints import ENDPOINTS
from models.registry.champions import SHIPPED
from models.registry.mlflow_registry import Registry
from tests.instance.instances import InstanceProcess, leftover_processes, run_command, start_up

pytestmark = pytest.mark.timeout(1500)

TURNS = [
    {"speaker": "S1", "text": "She has bruises on both arms and says the night carer grabbed her."},
    {"speaker": "S2", "text": "I will ring the safeguarding team this afternoon."},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("instance")


@pytest.fixture(scope="module")
def started(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstanceProcess]:
    up = start_up(data, tmp_path_factory.mktemp("told") / "told")
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()


@pytest.fixture(scope="module")
def running(started: InstanceProcess) -> InstanceInfo:
    return started.wait_ready()


def token(data: Path, role: str) -> str:
    printed = run_command(data, "token", "--tenant", "home", "--user", role.replace("_", "-"), "--role", role)
    assert printed.returncode == 0, printed.stderr
    return printed.stdout.strip()


@pytest.fixture(scope="module")
def tokens(data: Path, running: InstanceInfo) -> Tokens:
    return Tokens(manager=token(data, "care_manager"), lead=token(data, "safeguarding_lead"))


@pytest.fixture(scope="module")
def models(running: InstanceInfo, tokens: Tokens) -> Iterator[httpx.Client]:
    """The model API at its own port, as the safeguarding lead."""
    bearer = {"Authorization": f"Bearer {tokens.lead}"}
    with httpx.Client(base_url=running.serve_url, headers=bearer, timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def ground(running: InstanceInfo, tokens: Tokens) -> dict[str, str]:
    """A processing activity, purpose by purpose, that rests on no one person's consent."""
    found = {}
    bearer = {"Authorization": f"Bearer {tokens.manager}"}
    with httpx.Client(base_url=running.address, headers=bearer, trust_env=False) as client:
        for purpose in PURPOSES:
            body = {
                "activity_type": purpose, "legal_basis": "vital_interests", "purpose": "safety",
                "special_category_condition": "DPA 2018 Sch. 1 para. 18",
            }  # fmt: skip
            answer = client.post("/api/processing-activities", json=body)
            assert answer.status_code == 201, answer.text
            found[purpose] = answer.json()["id"]
    return found


def count(data: Path, statement: str) -> int:
    """What the administrator counts in the running instance's database."""
    running = read_instance_info(data)
    assert running is not None
    with psycopg.connect(administrator_url(Settings(data_dir=data), running)) as conn:
        row = conn.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


# --- found -------------------------------------------------------------------------------------------------------


def test_run_json_tells_this_user_alone_where_it_is(
    data: Path, running: InstanceInfo, started: InstanceProcess
) -> None:
    assert stat.S_IMODE((data / "run.json").stat().st_mode) == 0o600
    assert running.pid == started.process.pid
    assert running.port == started.port
    assert httpx.get(f"{running.address}/health", trust_env=False).json() == {"status": "ok"}


def test_a_second_instance_in_the_same_folder_is_refused(data: Path, running: InstanceInfo) -> None:
    second = run_command(data, "up", "--port", str(free_port()))
    assert second.returncode == 1
    assert second.stdout == ""
    assert "Another instance runs in" in second.stderr.splitlines()[-1]


def test_database_url_alone_is_printed(data: Path, running: InstanceInfo) -> None:
    printed = run_command(data, "database-url")
    assert printed.returncode == 0
    [line] = printed.stdout.splitlines()
    with psycopg.connect(line) as conn:
        assert conn.execute("select current_user").fetchone() == ("postgres",)


def test_a_token_alone_is_printed_and_opens_the_door(running: InstanceInfo, tokens: Tokens) -> None:
    assert len(tokens.lead.split(".")) == 3
    me = httpx.get(f"{running.address}/api/me", headers={"Authorization": f"Bearer {tokens.lead}"}, trust_env=False)
    assert me.json()["role"] == "safeguarding_lead"


def test_a_role_that_is_none_is_wrong_in_one_line(data: Path, running: InstanceInfo) -> None:
    printed = run_command(data, "token", "--tenant", "home", "--user", "u", "--role", "emperor")
    assert (printed.returncode, printed.stdout) == (2, "")
    assert "emperor" in printed.stderr.splitlines()[-1]


# --- asked -------------------------------------------------------------------------------------------------------


def test_the_model_api_asks_for_a_token(running: InstanceInfo) -> None:
    answer = httpx.post(f"{running.serve_url}/api/ai/embed", json={}, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["type"].endswith("/token-missing")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_role_without_the_permission_is_refused(running: InstanceInfo, data: Path) -> None:
    bearer = {"Authorization": f"Bearer {token(data, 'resident')}"}
    answer = httpx.post(f"{running.serve_url}/api/ai/embed", json={}, headers=bearer, trust_env=False)
    assert answer.status_code == 403


def test_without_a_ground_nothing_is_read(models: httpx.Client) -> None:
    answer = models.post("/api/ai/detect-safeguarding", json={"id": "c", "turns": TURNS})
    assert answer.status_code == 422
    assert "bruises" not in answer.text


def test_another_tenants_ground_is_not_there(models: httpx.Client) -> None:
    unknown = "01900000-0000-7000-8000-000000000000"
    answer = models.post("/api/ai/embed", json={"processing_id": unknown, "texts": ["hello"]})
    assert answer.status_code == 404


def test_a_ground_for_something_else_is_refused(models: httpx.Client, ground: dict[str, str]) -> None:
    answer = models.post("/api/ai/embed", json={"processing_id": ground["transcribe"], "texts": ["hello"]})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "ground-other-purpose")


def test_what_is_not_json_is_a_problem(models: httpx.Client) -> None:
    answer = models.post("/api/ai/embed", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "request-invalid")


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS if one.request.__name__ == "ConversationRequest"])
def test_each_reading_has_its_shape_and_names_its_models(
    models: httpx.Client, ground: dict[str, str], endpoint: Any
) -> None:
    body = {"processing_id": ground["analyse"], "id": "c", "turns": TURNS}
    answer = models.post(f"/api/ai/{endpoint.call}", json=body)
    assert answer.status_code == 200, answer.text
    assert endpoint.response.model_validate(answer.json()).models


def test_a_batch_answers_in_order_with_each_items_error_in_its_place(
    models: httpx.Client, ground: dict[str, str]
) -> None:
    items = [{"id": "a", "turns": TURNS}, {"id": "b"}, {"id": "c", "turns": TURNS[:1]}]
    answer = models.post("/api/ai/sentiment-analysis", json={"processing_id": ground["analyse"], "items": items})
    first, second, third = answer.json()["results"]
    assert (first["id"], len(first["turns"]), third["id"], len(third["turns"])) == ("a", 2, "c", 1)
    assert second["error"]["status"] == 422


def test_vectors_have_length_one(models: httpx.Client, ground: dict[str, str]) -> None:
    answer = models.post("/api/ai/embed", json={"processing_id": ground["analyse"], "texts": ["one", "two"]})
    for vector in answer.json()["vectors"]:
        assert len(vector) == 384
        assert sum(value * value for value in vector) == pytest.approx(1.0, abs=1e-4)


def test_what_is_not_audio_is_said_to_be_none(models: httpx.Client, ground: dict[str, str]) -> None:
    answer = models.post(
        "/api/ai/transcribe", data={"processing_id": ground["transcribe"]}, files={"audio": ("a.wav", b"hello")}
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_call_is_transcribed_through_the_platforms_own_door(
    running: InstanceInfo, tokens: Tokens, ground: dict[str, str]
) -> None:
    answer = httpx.post(
        f"{running.address}/api/ai/transcribe", data={"processing_id": ground["transcribe"]},
        files={"audio": (SAMPLE.name, SAMPLE.read_bytes())}, headers={"Authorization": f"Bearer {tokens.lead}"},
        timeout=300, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert answer.json()["source"] == SAMPLE.name
    assert len(answer.json()["utterances"]) > 2


def test_the_model_api_describes_itself(models: httpx.Client) -> None:
    paths = models.get("/openapi.json").json()["paths"]
    assert {f"/api/ai/{endpoint.call}" for endpoint in ENDPOINTS} <= set(paths)


# --- a person promotes another version ---------------------------------------------------------------------------


def test_a_promoted_version_takes_over_and_no_call_fails_meanwhile(
    data: Path, running: InstanceInfo, models: httpx.Client, ground: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED / "risk", tmp_path / "risk")
    manifest = tmp_path / "risk" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": "9.9.9"}))
    administrator = administrator_url(Settings(data_dir=data), running)
    registry = Registry(connections(administrator, data / "keys").mlflow, data / "models")
    registry.register_shipped(tmp_path)
    registry.set_champion("risk", "9.9.9")
    body = {"processing_id": ground["analyse"], "id": "c", "turns": TURNS}
    while True:
        answer = models.post("/api/ai/analyze-transcript", json=body)
        assert answer.status_code == 200, answer.text
        if answer.json()["models"]["risk"] == "risk@9.9.9":
            break


# --- killed in parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["comms.app.server", "comms.outbox.relay", "comms.governance.audit.sealer", "postgres"]
)
def test_a_killed_child_is_started_again(started: InstanceProcess, running: InstanceInfo, words: str) -> None:
    killed = started.child(words)
    killed.kill()
    killed.wait(10)
    assert started.child(words).pid != killed.pid
    token = (started.data / "keys" / "operations.token").read_text()
    for _ in range(600):
        if answers(f"{running.address}/health/detailed", token):
            return
        time.sleep(0.1)
    pytest.fail("it does not answer again")


def answers(url: str, token: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    except httpx.TransportError:
        return False


def test_a_killed_workers_job_is_finished_once_by_the_next(
    started: InstanceProcess, data: Path, running: InstanceInfo
) -> None:
    fresh = Tokens(manager=token(data, "care_manager"), lead=token(data, "safeguarding_lead"))

    async def walked_while_the_worker_is_killed() -> None:
        walking = asyncio.create_task(walk(running.address, fresh, CallSource.of(str(SAMPLE))))
        while count(data, "select count(*) from procrastinate.procrastinate_jobs where status = 'doing'") == 0:
            assert not walking.done()
            await asyncio.sleep(0.05)
        started.child("serving.worker").kill()
        await walking

    before = [count(data, f"select count(*) from {table}") for table in ("transcriptions", "analyses", "alerts")]
    asyncio.run(walked_while_the_worker_is_killed())
    after = [count(data, f"select count(*) from {table}") for table in ("transcriptions", "analyses", "alerts")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    assert count(data, "select max(attempts) from procrastinate.procrastinate_jobs") >= 1


def test_a_killed_ray_comes_back_and_the_worker_with_it(
    started: InstanceProcess, running: InstanceInfo, models: httpx.Client, ground: dict[str, str]
) -> None:
    worker = started.child("serving.worker")
    raylet = next(
        one for one in started.child("serving.ray_process").children() if "raylet" in one.name()
    )  # fmt: skip
    raylet.kill()
    worker.wait(60)
    body = {"processing_id": ground["analyse"], "texts": ["hello"]}
    while True:
        try:
            if models.post("/api/ai/embed", json=body).status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    assert started.child("serving.worker").pid != worker.pid


# --- ended ---------------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_cleanly(started: InstanceProcess, data: Path) -> None:
    assert started.end(signal.SIGTERM) == 0
    assert leftover_processes(data) == []
    assert not (data / "run.json").exists()
    assert not is_locked(data)


@pytest.fixture
def again(data: Path, tmp_path: Path) -> Iterator[InstanceProcess]:
    """Another start in the same data folder."""
    up = start_up(data, tmp_path / "told")
    yield up
    up.process.kill()
    up.process.wait()


def test_a_killed_launcher_leaves_no_process_behind(data: Path, again: InstanceProcess) -> None:
    again.wait_ready()
    os.kill(again.process.pid, signal.SIGKILL)
    again.process.wait()
    assert leftover_processes(data) == []
    assert read_instance_info(data) is None


def test_ctrl_c_while_it_starts_ends_it_cleanly(data: Path, again: InstanceProcess) -> None:
    again.child("serving.ray_process")
    assert again.end(signal.SIGINT) == 0
    assert leftover_processes(data) == []


def test_a_token_is_to_be_had_when_nothing_runs(data: Path) -> None:
    assert len(token(data, "reviewer").split(".")) == 3
    assert leftover_processes(data) == []


def test_without_a_running_instance_there_is_no_database_url(data: Path) -> None:
    printed = run_command(data, "database-url")
    assert (printed.returncode, printed.stdout) == (1, "")
    assert "start it with ./writecare up" in printed.stderr.splitlines()[-1]
