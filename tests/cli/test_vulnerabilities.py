"""`./writecare vulnerabilities` asks the advisory service that a setting names, about every pinned version."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "writecare"


@contextmanager
def advisory_service(vulnerable: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that speaks OSV's query API and knows one advisory, about every version of `vulnerable`.

    Gives its address and the (name, version) pairs that it was asked about.
    """
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.append((name, query["version"]))
            answer: dict[str, Any] = {}
            if name == vulnerable:
                package = {"name": name, "ecosystem": "PyPI"}
                affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]
                answer = {"vulns": [{"id": "TEST-2026-1", "summary": "An advisory for a test", "affected": affected}]}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        server.server_close()


def run(tmp_path: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "WRITECARE_OSV_URL"}
    return subprocess.run(
        [str(COMMAND), "vulnerabilities", "--data", str(tmp_path)], env=environment | settings,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def pinned() -> set[tuple[str, str]]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {(m[1], m[2]) for line in lines if (m := re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line))}


def test_without_a_service_named_nothing_is_asked_and_the_error_says_what_to_set(tmp_path: Path) -> None:
    outcome = run(tmp_path)
    assert outcome.returncode == 2
    assert "WRITECARE_OSV_URL" in outcome.stderr


def test_every_pinned_version_is_asked_about_and_a_known_vulnerability_fails_the_command(tmp_path: Path) -> None:
    with advisory_service("jinja2") as (address, asked):
        outcome = run(tmp_path, WRITECARE_OSV_URL=address)
    assert outcome.returncode == 1
    assert "TEST-2026-1" in outcome.stdout
    assert {name for name, _ in asked} == {name for name, _ in pinned()}


def test_a_lock_without_known_vulnerabilities_passes(tmp_path: Path) -> None:
    with advisory_service("no-such-package") as (address, _):
        outcome = run(tmp_path, WRITECARE_OSV_URL=address)
    assert outcome.returncode == 0, outcome.stderr
