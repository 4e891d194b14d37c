"""Tests of the API as a separate process: start, answers over a socket, stop, kill."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from comms.kernel.metrics import SHARED
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.http_server import free_port

pytestmark = pytest.mark.anyio

Api = tuple["subprocess.Popen[bytes]", str]
Start = Callable[..., Api]


@pytest.fixture
def start_api(databases: Databases, data_dir: Path) -> Iterator[Start]:
    """Starts the process and returns it with its address once it answers."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int | None = None, **more: str) -> Api:
        port = port or free_port()
        wiring = more | {
            "WRITECARE_DATA_DIR": str(data_dir), "WRITECARE_PORT": str(port),
            "WRITECARE_ROLE_DATABASE_URL": databases.app,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "comms.app.server"], env=os.environ | wiring, stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
        started.append(process)
        address = f"http://127.0.0.1:{port}"
        wait_until_it_answers(process, address)
        return process, address

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until_it_answers(process: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the API ended while starting"
        try:
            if httpx.get(f"{address}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the API does not answer")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly_when_asked(start_api: Start, stop: signal.Signals) -> None:
    process, _ = start_api()
    process.send_signal(stop)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in errors


def test_several_processes_answer_at_one_port_count_together_and_outlive_one_another(
    start_api: Start, tmp_path: Path, data_dir: Path
) -> None:
    port, together = free_port(), {"WRITECARE_API_PROCESSES": "2", SHARED: str(tmp_path)}
    (first, address), (second, _) = (start_api(port, **together) for _ in range(2))
    before = homes_asked(data_dir, address)
    for _ in range(40):  # one connection each, distributed by the kernel
        assert httpx.get(f"{address}/api/homes", trust_env=False).status_code == 401
    assert {homes_asked(data_dir, address) for _ in range(20)} == {before + 40}
    for leaving in (first, second):
        leaving.kill()
        leaving.wait()
        staying = second if leaving is first else start_api(port, **together)[0]
        wait_until_it_answers(staying, address)  # the answers before may have come from the other process
        answers = [httpx.get(f"{address}/api/homes", trust_env=False).status_code for _ in range(20)]
        assert answers == [401] * 20
    assert homes_asked(data_dir, address) == before + 80  # including requests that the killed processes had answered
    told = httpx.get(f"{address}/metrics", trust_env=False, headers=factories.operator_of(data_dir)).text.splitlines()
    assert len([line for line in told if line.startswith("writecare_messages_unread")]) == 1


def homes_asked(data_dir: Path, address: str) -> float:
    """The number of refused requests for homes, over all processes."""
    lines = httpx.get(f"{address}/metrics", trust_env=False, headers=factories.operator_of(data_dir)).text.splitlines()
    wanted = 'writecare_http_requests_total{method="GET",route="/api/homes",status="401"}'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))


async def test_a_call_is_recorded_over_a_real_socket_and_the_log_is_json_without_ids_of_people(
    start_api: Start, ctx: AppContext
) -> None:
    process, address = start_api()
    manager, resident, session_id = await factories.make_call(ctx)
    sound = factories.wav(70.0)  # more than two mebibytes: several reads
    signed_in = factories.bearer(ctx, manager)
    async with httpx.AsyncClient(base_url=address, headers=signed_in, trust_env=False, timeout=30) as caller:
        taken = await caller.post("/api/recordings", params={"session_id": str(session_id)}, files={"file": sound})
        assert taken.status_code == 201
        heard = await caller.get(taken.headers["location"] + "/download")
        assert heard.content == sound
        too_early = await caller.post(
            "/api/recordings", params={"session_id": str(session_id)}, files={"file": sound},
            headers={"Authorization": "Bearer x"},
        )  # fmt: skip
        assert too_early.status_code == 401
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    lines = errors.decode().splitlines()
    assert any('"route": "/api/recordings"' in line and '"status": 201' in line for line in lines)
    assert all(line.startswith("{") for line in lines), [line for line in lines if not line.startswith("{")]
    assert str(resident.user_id) not in errors.decode()


async def test_killed_in_the_middle_of_an_upload_it_leaves_nothing_behind(start_api: Start, ctx: AppContext) -> None:
    process, address = start_api()
    manager, _, session_id = await factories.make_call(ctx)
    before = named_files(ctx)
    half_uploaded(address, session_id, factories.bearer(ctx, manager)["Authorization"])
    process.kill()
    process.wait()
    assert named_files(ctx) == before
    assert await factories.rows(ctx, manager, "select 1 from recordings") == []
    _, address = start_api()
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as caller:
        assert (await caller.get("/health/detailed", headers=factories.operator(ctx))).status_code == 200


def half_uploaded(address: str, session_id: UUID, authorization: str) -> None:
    """Sends half of the announced body and waits until the other side has read it."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        head = (
            f"POST /api/recordings?session_id={session_id} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: {authorization}\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
            "Content-Length: 10000000\r\n\r\n"
            '--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        )
        line.sendall(head.encode() + factories.wav(120.0))
        time.sleep(0.5)


def named_files(ctx: AppContext) -> set[Path]:
    """All files below the folders that could hold audio."""
    roots = (ctx.settings.data_dir / "recordings", ctx.settings.data_dir / "scratch")
    return {path for root in roots for path in root.rglob("*") if path.is_file()}
