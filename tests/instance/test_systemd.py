"""The units for systemd start what is there, each with its own role, and what they are told is enough to run."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from comms.kernel.settings import Settings
from instance.launcher import free_port
from instance.process_environment import ROLE_OF
from instance.provisioning import Databases
from instance.systemd_setup import in_quotes, set_up
from models.contract.errors import WriteCareError

ROOT: Final = Path(__file__).resolve().parents[2]
UNITS: Final = ROOT / "deploy" / "systemd"
INSTALLED: Final = "/opt/writecare"
SERVICES: Final = sorted(UNITS.glob("*.service"))


def read_unit(file: Path) -> dict[str, list[str]]:
    """All values of each key, in their order."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def process_of(file: Path) -> str:
    return file.stem.removeprefix("writecare-").removesuffix("@")


def read_environment(file: Path) -> dict[str, str]:
    """An environment file as systemd reads it: shell quoting, without expansion."""
    return dict(line.split("=", 1) for line in shlex.split(file.read_text().replace("\\$", "$").replace("\\`", "`")))


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_what_a_unit_starts_exists(file: Path) -> None:
    unit = read_unit(file)
    for line in unit["ExecStart"] + unit.get("ExecStartPre", []):
        program, *arguments = shlex.split(line)
        if program == f"{INSTALLED}/.venv/bin/python":
            assert arguments[:2] == ["-P", "-m"]
            assert importlib.util.find_spec(arguments[2]) is not None, arguments[2]
        elif program.startswith(INSTALLED):
            assert os.access(ROOT / Path(program).relative_to(INSTALLED), os.X_OK), program
        else:
            assert program == "/bin/rm"


def test_every_process_of_an_instance_has_a_unit_and_each_its_own_environment() -> None:
    processes = {process_of(file): read_unit(file) for file in SERVICES}
    one_off = {"setup", "launcher"}
    assert set(processes) - one_off == set(ROLE_OF) - {"registration"}
    for process in set(processes) - one_off:
        told = processes[process]["EnvironmentFile"]
        assert told == ["/etc/writecare/settings.env", f"/run/writecare/{process}.env"], process
        assert processes[process]["Requires"] == ["writecare-setup.service"]
        assert processes[process]["PartOf"] == ["writecare.target"]


def test_the_target_wants_every_unit_but_the_launcher() -> None:
    wanted = set(" ".join(read_unit(UNITS / "writecare.target")["Wants"]).split())
    expected = {file.name.replace("@.", "@1.") for file in SERVICES if process_of(file) != "launcher"}
    assert wanted == expected


def test_the_administrators_connection_string_is_read_by_the_setup_alone() -> None:
    readers = [file.name for file in SERVICES if "administrator.env" in file.read_text()]
    assert readers == ["writecare-setup.service"]


def test_the_units_start_the_modules_and_options_that_the_launcher_starts() -> None:
    launcher = Path(importlib.util.find_spec("instance.launcher").origin or "").read_text()  # type: ignore[union-attr]
    for process in set(ROLE_OF) - {"registration"}:
        (file,) = (file for file in SERVICES if process_of(file) == process)
        (line,) = read_unit(file)["ExecStart"]
        module, *arguments = shlex.split(line)[3:]
        assert f'_module_command("{module}")' in launcher
        assert [option for option in arguments if option.startswith("--") and f'"{option}"' not in launcher] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for file in units.rglob("*"):
        if file.is_file():
            text = re.sub(r"(?m)^(User|Group)=writecare$", r"\1=root", file.read_text())
            text = re.sub(rf"{INSTALLED}/\.venv/bin/python", "/bin/true", text)
            file.write_text(text.replace(INSTALLED, str(ROOT)))
    names = sorted(str(file) for file in [*units.glob("*.service"), *units.glob("*.target")])
    outcome = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in outcome.stderr.splitlines() if "writecare" in line]
    assert (outcome.returncode, ours) == (0, [])


@pytest.mark.parametrize("value", ["plain", "with space", 'a"b\\c', "p$w`d", "postgresql://u:p%40@h/d?host=/run/x y"])
def test_a_value_is_read_back_as_it_was_written(tmp_path: Path, value: str) -> None:
    file = tmp_path / "x.env"
    file.write_text(f"NAME={in_quotes(value)}\n")
    assert read_environment(file) == {"NAME": value}


def test_without_a_database_the_setup_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WriteCareError, match="DATABASE_URL"):
        set_up(Settings(data_dir=tmp_path), tmp_path / "run")


@contextmanager
def started(file: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    (line,) = read_unit(file)["ExecStart"]
    command = [sys.executable, *shlex.split(line)[1:]]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WRITECARE_", "DATABASE_"))}
    with subprocess.Popen(command, env=own | environment, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_written_environment_is_enough_for_the_api_and_the_relay(
    databases: Databases, data_dir: Path, tmp_path: Path
) -> None:
    port = free_port()
    settings = Settings(
        data_dir=tmp_path / "data", database_url=SecretStr(databases.administrator), port=port,
        storage_url=None, serve_url="http://127.0.0.1:9",
    )  # fmt: skip
    # the roles' passwords are the server's: another data folder would give them others, under all other tests
    keys = tmp_path / "data" / "keys"
    keys.mkdir(parents=True)
    shutil.copy(data_dir / "keys" / "database.json", keys)
    run = tmp_path / "run"
    set_up(settings, run)
    assert sorted(file.name for file in run.glob("*.env")) == sorted(
        f"{process}.env" for process in ROLE_OF if process != "registration"
    )
    assert {file.stat().st_mode & 0o777 for file in run.glob("*.env")} == {0o600}
    told = {file.stem: read_environment(file) for file in run.glob("*.env")}
    assert [process for process, variables in told.items() if "DATABASE_URL" in variables] == []
    assert "wcc_relay" in told["relay"]["WRITECARE_ROLE_DATABASE_URL"]
    set_up(settings, run)  # run again while all runs: nothing that they share changes
    assert {file.stem: read_environment(file) for file in run.glob("*.env")} == told
    with (
        started(UNITS / "writecare-relay.service", told["relay"]) as relay,
        started(UNITS / "writecare-api@.service", told["api"]) as api,
    ):
        while not _healthy(port):
            assert api.poll() is None
            time.sleep(0.1)
        assert relay.poll() is None
    assert (api.returncode, relay.returncode) == (0, 0)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
