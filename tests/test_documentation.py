"""The documentation is a site that builds strictly, is whole, and asks no other host for anything."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = sorted(
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md"]
    + [str(page.relative_to(ROOT)) for folder in ("docs", "models/cards") for page in (ROOT / folder).rglob("*.md")]
)
# What the theme's script would fetch from another host where it meets such an element.
FETCHED_BY_SCRIPT: Final = frozenset({"mermaid", "glightbox", "pyodide"})


class _Read(HTMLParser):
    """Collects what a page loads, where it links to, and the classes of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if "src" in given:
            self.loads.add(given["src"])
        if "href" in given:
            (self.links if tag == "a" else self.loads).add(given["href"])


def build(directory: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(root / "docs" / "build_site.py"), "build", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    outcome = build(directory)
    assert outcome.returncode == 0, outcome.stderr
    return directory


def built(site: Path) -> Iterator[tuple[Path, _Read]]:
    for page in sorted(site.rglob("*.html")):
        yield page, _Read(page.read_text())


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    expected = {re.sub(r"README\.html$", "index.html", page.removesuffix(".md") + ".html") for page in PAGES}
    assert {str(page.relative_to(site)) for page in site.rglob("*.html")} == expected | {"404.html"}
    start = _Read((site / "index.html").read_text())
    assert expected - {urlsplit(link).path.removeprefix("./") for link in start.links} <= {"index.html"}


def test_every_link_within_the_site_leads_to_a_page_of_it(site: Path) -> None:
    broken = []
    for page, read in built(site):
        for link in read.links | read.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            base = site if parts.path.startswith("/") else page.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve()
            if not (target / "index.html" if target.is_dir() else target).is_file():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    outside = [
        f"{page.relative_to(site)}: {load}"
        for page, read in built(site)
        for load in read.loads
        if urlsplit(load).netloc or urlsplit(load).scheme not in {"", "data"}
    ]
    assert outside == []
    drawn = [f"{page.relative_to(site)}: {read.classes & FETCHED_BY_SCRIPT}" for page, read in built(site)]
    assert [page for page in drawn if not page.endswith("set()")] == []
    styles = [
        style for style in site.rglob("*.css") if re.search(r"@import|url\(['\"]?(?:https?:)?//", style.read_text())
    ]
    assert styles == []


def test_the_search_index_holds_the_words_of_every_page(site: Path) -> None:
    items = json.loads((site / "search.json").read_text())["items"]
    assert {item["location"].partition("#")[0] for item in items} >= {
        re.sub(r"README\.html$", "index.html", page.removesuffix(".md") + ".html") for page in PAGES
    } - {"index.html"}
    assert any("safeguarding" in item["text"].lower() for item in items)


def test_a_list_right_under_a_paragraph_is_a_list(site: Path) -> None:
    page = (site / "docs" / "decisions" / "0031-places-for-decoders.html").read_text()
    assert re.search(r"<li>\s*(?:<p>)?<code>", page)


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for page in (*PAGES, "LICENSE", "docs/build_site.py"):
        (root / page).parent.mkdir(parents=True, exist_ok=True)
        (root / page).write_bytes((ROOT / page).read_bytes())
    glossary = root / "docs" / "glossary.md"
    glossary.write_text(glossary.read_text() + "\nSee [this](no-such-page.md).\n")
    outcome = build(tmp_path / "out", root)
    assert outcome.returncode == 1
    assert "no-such-page.md" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_every_decision_is_listed_under_its_number_and_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- (\d+): \[(.+)\]\((.+)\)$", (folder / "README.md").read_text(), re.MULTILINE)
    expected = []
    for page in sorted(folder.glob("[0-9]*.md")):
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").replace("`", "").partition(". ")
        assert page.name.startswith(f"{int(number):04d}-"), page.name
        expected.append((number, title, page.name))
    assert listed == expected


def test_the_number_that_no_decision_has_is_explained() -> None:
    assert "Number 28 is not used" in (ROOT / "docs" / "decisions" / "README.md").read_text()


def test_every_model_card_is_listed() -> None:
    folder = ROOT / "models" / "cards"
    listed = set(re.findall(r"^- \[.+\]\((.+)\)$", (folder / "README.md").read_text(), re.MULTILINE))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}


def test_the_command_that_lists_the_decisions_changes_nothing_now(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "decisions"
    shutil.copytree(ROOT / "docs" / "decisions", folder)
    shutil.copy(ROOT / "docs" / "build_site.py", folder.parent)
    command = [sys.executable, "-P", str(folder.parent / "build_site.py"), "decisions"]
    subprocess.run(command, check=True)
    assert (folder / "README.md").read_text() == (ROOT / "docs" / "decisions" / "README.md").read_text()
