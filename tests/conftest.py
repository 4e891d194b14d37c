"""A real PostgreSQL, a real house and the real application, made once for all tests.

Asynchronous tests run in anyio's own pytest plugin (mark modules with `pytest.mark.anyio`), all in one event loop.
Every test makes tenants of its own (`tests/factories.py`), so that none sees another's rows.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from comms.app.application import create_app
from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.web.context import AppContext, open_app_context
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.telemetry import silence_telemetry
from tests import factories

silence_telemetry()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def databases(data_dir: Path) -> Iterator[Databases]:
    """The embedded PostgreSQL, provisioned; where each role logs in."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    try:
        yield provision(server.url(), data_dir / "keys", maintenance_url=server.url("postgres"))
    finally:
        server.stop()


@pytest.fixture(scope="session")
def settings(data_dir: Path, databases: Databases) -> Settings:
    """As the launcher wires the API."""
    return Settings(data_dir=data_dir, role_database_url=SecretStr(databases.app))


@pytest.fixture(scope="session")
def worker_settings(data_dir: Path, databases: Databases) -> Settings:
    """As the launcher wires the worker."""
    return Settings(data_dir=data_dir, role_database_url=SecretStr(databases.worker))


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture(scope="session")
def ctx(app: FastAPI) -> AppContext:
    """The house of the application: what the API sees."""
    found: AppContext = app.state.ctx
    return found


@pytest.fixture(scope="session")
async def worker_ctx(worker_settings: Settings) -> AsyncIterator[AppContext]:
    """The house of a worker: the same storage and keys, another role in the database."""
    async with open_app_context(worker_settings, Metrics()) as opened:
        yield opened


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application, without a token, at an address that no other test has."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(factories.new_address(), 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
        yield opened
