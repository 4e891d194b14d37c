"""ARCHITECTURE.md names the packages that there are, and the order that import-linter holds."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PARTS = ("models", "comms", "instance", "pipelines", "serving", "training", "cli", "benchmarks", "tests")


def packages(part: str) -> set[str]:
    return {path.parent.name for path in (ROOT / part).glob("*/__init__.py")}


def tree() -> str:
    return PAGE[PAGE.index("## The tree") :]


def test_every_package_stands_in_the_tree() -> None:
    missing = [part for part in PARTS if f"{part}/" not in tree()]
    missing += [f"{part}/{name}" for part in ("models", "comms") for name in packages(part) if f"{name}/" not in tree()]
    assert missing == []


def test_the_lines_of_comms_are_the_layers_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [layers] = [one["layers"] for one in contracts if one.get("containers") == ["comms"]]
    checked = [{name.strip() for name in layer.split("|")} for layer in layers]
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", PAGE, flags=re.MULTILINE)
    shown = [set(re.findall(r"`(\w+)`", names)) for _, names in rows]
    assert shown == checked
    assert [int(number) for number, _ in rows] == list(range(len(checked), 0, -1))


def test_every_named_path_exists() -> None:
    named = set(re.findall(r"`((?:" + "|".join(PARTS) + r")/[\w/.]+)`", PAGE))
    absent = [name for name in named if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()]
    assert sorted(absent) == []
