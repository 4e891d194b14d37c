"""Fixtures for all tests: a real PostgreSQL, a real application context and the real application, made once.

Asynchronous tests run in anyio's pytest plugin (mark modules with `pytest.mark.anyio`), all in one event loop. Every
test makes its own tenants (`tests/factories.py`), so no test sees rows of another.
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
    """The embedded PostgreSQL, provisioned; the database URL of each role."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    try:
        yield provision(server.url(), data_dir / "keys", maintenance_url=server.url("postgres"))
    finally:
        server.stop()


@pytest.fixture(scope="session")
def settings(data_dir: Path, databases: Databases) -> Settings:
    """The API's settings, as the launcher sets them."""
    return Settings(data_dir=data_dir, role_database_url=SecretStr(databases.app))


@pytest.fixture(scope="session")
def worker_settings(data_dir: Path, databases: Databases) -> Settings:
    """The worker's settings, as the launcher sets them."""
    return Settings(data_dir=data_dir, role_database_url=SecretStr(databases.worker))


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture(scope="session")
def ctx(app: FastAPI) -> AppContext:
    """The application context of the API."""
    found: AppContext = app.state.ctx
    return found


@pytest.fixture(scope="session")
async def worker_ctx(worker_settings: Settings) -> AsyncIterator[AppContext]:
    """The application context of a worker: same storage and keys, another database role."""
    async with open_app_context(worker_settings, Metrics()) as opened:
        yield opened


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application without a token, with an IP address that no other test uses."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(factories.new_address(), 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
        yield opened
