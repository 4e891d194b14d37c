"""PostgreSQL under the launcher: the embedded server, or one that runs elsewhere; either is brought to this version."""

from pathlib import Path
from typing import Final

from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.contract.errors import unavailable

NAME: Final = "postgres"


class PostgresProcess:
    """Starts and provisions; knows where each role logs in once it has been started."""

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
        """Where each role logs in; raises `unavailable` before the first start."""
        if self._databases is None:
            raise unavailable("postgres-down", "PostgreSQL has not been started yet.")
        return self._databases

    @property
    def socket_dir(self) -> Path | None:
        """Where the embedded server's socket lies; None for a server elsewhere."""
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
            self._server.stop()  # else the next try would find the cluster taken by this server
            raise

    def alive(self) -> bool:
        return self._external_url is not None or self._server.alive()

    def ready(self) -> bool:
        return self.alive() and self._databases is not None

    def request_stop(self) -> None:
        """Nothing yet: it goes last, when nobody uses it any more."""

    def end(self) -> None:
        if self._external_url is None:
            self._server.stop()

    def pid(self) -> int | None:
        return self._server.pid
