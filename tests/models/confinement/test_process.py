"""Confinement: a compromised child cannot reach anything; if the kernel refuses a limit, no file is opened."""

import contextlib
import io
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models.audio import decoder
from models.confinement.process import Limits, confined, open_descriptor
from models.confinement.sandbox import landlock_attributes
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.models.confinement.attacking_child import ATTACKS, Places

ROOT = Path(__file__).parents[3]
LIMITS = Limits(memory_bytes=1 << 30, most_seconds=60)
CHILD = "tests.models.confinement.attacking_child"
FILE = b"a file from outside"
LAYERS = ("landlock", "seccomp", "unshare", "chroot")


@contextlib.contextmanager
def attacked(folder: Path) -> Iterator[Places]:
    """Targets that an unconfined process can attack successfully."""
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_bytes(b"secret")
    abstract = f"writecare-{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket(family)) for family in (socket.AF_UNIX, socket.AF_UNIX)]
        by_port = stack.enter_context(socket.socket())
        listeners[0].bind(str(folder / "s"))
        (folder / "s").chmod(0o777)
        listeners[1].bind("\0" + abstract)
        by_port.bind(("127.0.0.1", 0))
        for listener in (*listeners, by_port):
            listener.listen()
        yield Places(os.getpid(), str(secret), str(folder / "s"), abstract, by_port.getsockname()[1])


def results_of(places: Places, file: bytes, limits: Limits = LIMITS) -> dict[str, str]:
    with (
        open_descriptor(io.BytesIO(file)) as descriptor,
        confined(CHILD, ("all", json.dumps(asdict(places))), descriptor, limits) as records,
    ):
        results: dict[str, str] = json.loads(dict(records)[b"R"])
        return results


def on_a_kernel_without(layers: tuple[str, ...], code: str, *arguments: str) -> Any:
    """The JSON that `code` prints when it runs on a kernel that refuses these layers."""
    python = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tests.seccomp_refusal", *layers, "--", *python],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


# --- a compromised child ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["as it is started", "as an ordinary user's"])
def refused(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = b"ordinary" if request.param == "as an ordinary user's" else FILE
    with attacked(tmp_path_factory.mktemp("attacked")) as places:
        return results_of(places, file)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_child_that_was_taken_over_cannot(attack: str, refused: dict[str, str]) -> None:
    assert refused[attack] != "done"


def test_every_limit_holds_on_this_kernel() -> None:
    granted = decoder.confinement()
    assert granted.missing == ()
    assert "system calls" in granted.layers


def test_the_file_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.write_bytes(FILE)
    with path.open("r+b") as sent, attacked(tmp_path) as places:
        sent.seek(7)
        with (
            open_descriptor(sent) as descriptor,
            confined(CHILD, ("all", json.dumps(asdict(places))), descriptor, LIMITS) as records,
        ):
            assert [kind for kind, _ in records] == [b"C", b"R"]
        assert sent.tell() == 7
    assert path.read_bytes() == FILE


def test_a_child_that_computes_for_ever_is_ended() -> None:
    limits, kinds = Limits(memory_bytes=1 << 30, most_seconds=20, least_seconds=20), list[bytes]()
    with (
        contextlib.suppress(WriteCareError),  # wall-clock time, because the machine may be busy
        open_descriptor(io.BytesIO(FILE)) as descriptor,
        confined(CHILD, ("compute",), descriptor, limits) as records,
    ):
        for kind, _ in records:
            kinds.append(kind)
    assert kinds == [b"C"]


def test_a_child_that_waits_for_ever_is_ended_by_the_clock_and_the_file_may_be_sent_again() -> None:
    limits = Limits(memory_bytes=1 << 30, most_seconds=3)
    with (
        pytest.raises(WriteCareError) as ended,
        open_descriptor(io.BytesIO(FILE)) as descriptor,
        confined(CHILD, ("sleep",), descriptor, limits) as records,
    ):
        list(records)
    assert (ended.value.kind, ended.value.slug) == (Kind.UNAVAILABLE, "decoding-timed-out")


def test_how_long_a_child_may_take_follows_from_the_size_of_the_file() -> None:
    limits = Limits(memory_bytes=1 << 30, most_seconds=600)
    assert limits.seconds_for(62) < 11
    assert 60 <= limits.seconds_for(100 << 10) < 62  # a few hours of silence
    assert limits.seconds_for(2 << 30) == 600


# --- what the kernel refuses -----------------------------------------------------------------------------------------


_ATTACK = (
    "import json\nfrom tests.models.confinement.test_process import FILE, Limits, results_of\n"
    "from tests.models.confinement.attacking_child import Places\n"
    "limits = Limits(memory_bytes=1 << 30, most_seconds=60, allow_unconfined=sys.argv[2] == 'allow')\n"
    "print(json.dumps(results_of(Places(**json.loads(sys.argv[1])), FILE, limits)))"
)
_DECODE = (
    "import io, json\nfrom models.audio import decoder as audio\n"
    "from models.contract.errors import WriteCareError\nfrom tests import factories\n"
    "try:\n"
    "    allow = sys.argv[1] == 'allow'\n"
    "    found = audio.inspect(io.BytesIO(factories.wav(1.0)), max_seconds=60, allow_unconfined=allow)\n"
    "    answer = {'seconds': found.duration_seconds}\n"
    "except WriteCareError as error:\n"
    "    answer = {'kind': error.kind, 'slug': error.slug, 'detail': error.detail}\n"
    "granted = audio.confinement()\n"
    "print(json.dumps(answer | {'missing': granted.missing, 'layers': granted.layers}))"
)
_FILES = [
    name
    for name in ATTACKS
    if name.startswith(("read a", "read the", "list", "make a file", "make a dir")) and not name.endswith("memory")
]


def test_a_child_that_nothing_confines_can_do_what_these_tests_try(tmp_path: Path) -> None:
    # Otherwise the tests of refused attacks would prove nothing.
    with attacked(tmp_path) as places:
        results = on_a_kernel_without(LAYERS, _ATTACK, json.dumps(asdict(places)), "allow")
    for attack in (
        "read a file of the system", "read a file of the user", "read a file of the interpreter", "list the root",
        "ask whether a file is there", "make a file in memory", "connect to a socket with a path",
        "connect to an abstract socket", "connect to this machine", "make a pair of sockets", "signal the parent",
        "have signals sent to the parent", "limit the parent", "start a process",
        "start a thread", "start a program", "map memory to run code", "import a module",
    ):  # fmt: skip
        assert results[attack] == "done", attack


@pytest.mark.parametrize("without", [("landlock",), ("unshare", "chroot"), ("landlock", "unshare", "chroot")])
def test_the_list_of_system_calls_holds_everything_also_alone(without: tuple[str, ...], tmp_path: Path) -> None:
    with attacked(tmp_path) as places:
        results = on_a_kernel_without(without, _ATTACK, json.dumps(asdict(places)), "insist")
    assert [attack for attack in ATTACKS if results[attack] == "done"] == []


@pytest.mark.parametrize("without", [("seccomp", "unshare", "chroot"), ("seccomp", "landlock")])
def test_landlock_and_the_empty_root_each_close_the_files_also_alone(without: tuple[str, ...], tmp_path: Path) -> None:
    with attacked(tmp_path) as places:
        results = on_a_kernel_without(without, _ATTACK, json.dumps(asdict(places)), "allow")
    assert [attack for attack in _FILES if results[attack] == "done"] == []


@pytest.mark.parametrize("without", [("seccomp",), LAYERS])
def test_where_a_limit_is_refused_no_file_is_opened(without: tuple[str, ...]) -> None:
    answered = on_a_kernel_without(without, _DECODE, "insist")
    assert (answered["kind"], answered["slug"]) == ("unavailable", "decoding-unconfined")
    assert "processes" in answered["missing"]
    for limit in answered["missing"]:
        assert limit in answered["detail"]


def test_where_a_limit_is_refused_a_file_is_opened_if_that_is_allowed() -> None:
    answered = on_a_kernel_without(LAYERS, _DECODE, "allow")
    assert answered["seconds"] == pytest.approx(1.0)
    assert answered["missing"] == ["files", "network", "processes"]
    assert answered["layers"] == []


def test_a_child_that_is_not_confined_does_not_even_begin(tmp_path: Path) -> None:
    # Without the parent, which could end the child only after it started to read.
    code = (
        "import json, subprocess\n"
        f'run = "import sys; sys.path.append({str(ROOT)!r})\\nfrom models.confinement.sandbox import run\\n"\n'
        f"run += \"run('{CHILD}', 1 << 30, 10, True, ['all', sys.argv[1]])\"\n"
        "done = subprocess.run([sys.executable, '-I', '-c', run, sys.argv[1]], stdin=subprocess.DEVNULL,\n"
        "    capture_output=True, check=True)\n"
        "print(json.dumps([chr(done.stdout[0]), done.stdout.count(b'read a file')]))"
    )
    with attacked(tmp_path) as places:
        assert on_a_kernel_without(("seccomp",), code, json.dumps(asdict(places))) == ["C", 0]


@pytest.mark.parametrize(
    ("version", "length", "files"),
    [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (5, 16, 16), (6, 24, 16), (9, 24, 16)],
)
def test_landlock_is_asked_for_what_its_version_knows(version: int, length: int, files: int) -> None:
    attributes = landlock_attributes(version)
    assert (len(attributes), int.from_bytes(attributes[:8], "little")) == (length, (1 << files) - 1)


def test_a_file_in_memory_can_be_decoded_too() -> None:
    assert decoder.inspect(io.BytesIO(factories.wav(1.0)), max_seconds=60).duration_seconds == pytest.approx(1.0)
