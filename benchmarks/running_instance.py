"""A running system for benchmarks, with signed-in users and a lawful basis for model calls."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from cli.api_walkthrough import Tokens
from cli.demo import make_tokens
from comms.kernel.settings import Settings
from instance.launcher import Instance, free_port, running_instance


@dataclass(frozen=True)
class BenchInstance:
    """The instance, the demo's tokens, and the processing activities (purpose -> id) for the lawful basis of calls."""

    instance: Instance
    tokens: Tokens
    grounds: dict[str, str]


@contextmanager
def bench() -> Iterator[BenchInstance]:
    """A whole instance in a temporary data folder, ready, until the block ends."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="writecare-bench-") as folder:
        settings = Settings(data_dir=Path(folder), port=free_port())
        with running_instance(settings, console.print) as instance:
            tokens = asyncio.run(make_tokens(settings, instance.databases.app))
            yield BenchInstance(instance, tokens, _create_activities(instance.address, tokens.manager))


def _create_activities(address: str, token: str) -> dict[str, str]:
    found = {}
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        for purpose in ("record", "transcribe", "analyse"):
            answer = client.post(
                "/api/processing-activities",
                json={
                    "activity_type": purpose, "legal_basis": "vital_interests", "purpose": "benchmark",
                    "special_category_condition": "DPA 2018 Sch. 1 para. 18",
                },
            )  # fmt: skip
            found[purpose] = answer.raise_for_status().json()["id"]
    return found
