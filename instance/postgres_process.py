"""PostgreSQL as a child of the launcher: the embedded server, or an external one. Both are migrated at the start."""

from pathlib import Path
from typing import Final

from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.contract.errors import unavailable

NAME: Final = "postgres"


class PostgresProcess:
    """Starts the server and provisions it. After the start, `databases` has the connection string of each role."""

    name = NAME
    after: tuple[str, ...] = ()
    restarts_with: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self._keys_dir = settings.data_dir / "keys"
        self._operator_tenant = settings.operator_tenant
        self._external_url = settings.database_url
        self._server = EmbeddedPostgres(settings.data_dir)
        self._databases: Databases | None = None

    @property
    def databases(self) -> Databases:
        """The connection string of each role. Raises `unavailable` before the first start."""
        if self._databases is None:
            raise unavailable("postgres-down", "PostgreSQL has not been started yet.")
        return self._databases

    @property
    def socket_dir(self) -> Path | None:
        """The directory of the embedded server's socket. None for an external server."""
        if self._external_url is not None:
            return None
        return Path(self._server.url().rpartition("?host=")[2].partition("&")[0])

    def start(self) -> None:
        if self._external_url is not None:
            self._databases = provision(
                self._external_url.get_secret_value(), self._keys_dir, operator_tenant=self._operator_tenant
            )
            return
        self._server.start()
        try:
            self._databases = provision(
                self._server.url(), self._keys_dir, operator_tenant=self._operator_tenant,
                maintenance_url=self._server.url("postgres"),
            )  # fmt: skip
        except BaseException:
            self._server.stop()  # otherwise the cluster would still be in use at the next try
            raise

    def alive(self) -> bool:
        return self._external_url is not None or self._server.alive()

    def ready(self) -> bool:
        return self.alive() and self._databases is not None

    def request_stop(self) -> None:
        """Does nothing: PostgreSQL stops last, when no other process uses it."""

    def end(self) -> None:
        if self._external_url is None:
            self._server.stop()

    def pid(self) -> int | None:
        return self._server.pid
