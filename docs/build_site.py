"""Builds the documentation site from the Markdown files of this repository, and serves it on this machine.

    .venv/bin/python docs/build_site.py build [DIRECTORY]     # strict: a broken link is an error
    .venv/bin/python docs/build_site.py serve [--port 8000]   # http://127.0.0.1:8000, built again after each change
    .venv/bin/python docs/build_site.py decisions             # writes the list in docs/decisions/README.md

`./writecare docs` is the short way. The pages lie in the site as they lie in the repository, so that a relative link
works in both. Nothing in the built site asks another host for anything: no fonts, no scripts; the search index is a
file.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
SITE: Final = ROOT / "build" / "site"
TOP: Final = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md")
FOLDERS: Final = ("docs", "models/cards")
# The browser itself refuses what another host would send.
_POLICY: Final = "default-src 'self' 'unsafe-inline' data:"
_LIST_ITEM: Final = re.compile(r"(?:[-*]|\d+\.) ")
_NOT_TEXT: Final = re.compile(r"(?:[-*]|\d+\.) | |$")


def pages(root: Path = ROOT) -> list[Path]:
    """Every page of the site, relative to the root."""
    return [Path(name) for name in TOP] + sorted(
        page.relative_to(root) for folder in FOLDERS for page in (root / folder).rglob("*.md")
    )


def build(out: Path, root: Path = ROOT) -> None:
    """Build the site into `out`, in the place of what is there. Raises RuntimeError where a link is broken."""
    with tempfile.TemporaryDirectory(prefix="writecare-docs-") as work:
        source = Path(work, "source")
        for page in pages(root):
            (source / page).parent.mkdir(parents=True, exist_ok=True)
            (source / page).write_text(with_lists_apart((root / page).read_text()))
        shutil.copy(root / "LICENSE", source / "LICENSE")
        config = Path(work, "mkdocs.yml")
        config.write_text(json.dumps(configuration(root), indent=2))  # JSON is YAML too
        outcome = subprocess.run(
            [sys.executable, "-P", "-m", "zensical", "build", "--strict", "--config-file", str(config)],
            capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip
        if outcome.returncode != 0:
            said = re.sub(r"\x1b\[[0-9;]*m", "", outcome.stdout + outcome.stderr)
            raise RuntimeError(re.sub(r"(?ms)^Traceback.*\n(?=\w)", "", said).strip())
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(Path(work, "html"), out)


def configuration(root: Path) -> dict[str, Any]:
    """What the generator is told."""
    return {
        "site_name": "WriteCareConnect",
        "docs_dir": "source",
        "site_dir": "html",
        "use_directory_urls": False,
        "nav": navigation(root),
        "theme": {
            "name": "material",
            "language": "en",
            "font": False,  # else each page asks another host for its letters
            "features": ["navigation.indexes", "navigation.top", "search.highlight", "content.code.copy"],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate"},
            ],
        },
        "extra": {"generator": False},
        "plugins": ["search"],  # not "offline": that one loads a script from another host
        "validation": {"invalid_links": True, "invalid_link_anchors": True, "unresolved_references": True},
        "markdown_extensions": [
            "attr_list",
            {"toc": {"permalink": True}},
            {"pymdownx.highlight": {"anchor_linenums": False}},
            "pymdownx.superfences",  # without mermaid: its script would come from another host
        ],
    }  # fmt: skip


def navigation(root: Path) -> list[dict[str, Any]]:
    """The pages in the order in which a stranger reads them; a new how-to, decision or card comes in by itself."""
    all_pages = pages(root)

    def within(folder: str) -> list[Any]:
        found = [page for page in all_pages if page.parent == Path(folder)]
        found.sort(key=lambda page: (page.name != "README.md", page))
        return [str(page) if page.name == "README.md" else {_title(root / page): str(page)} for page in found]

    return [
        {"Start": "README.md"},
        {"Architecture": "ARCHITECTURE.md"},
        {"Contributing": "CONTRIBUTING.md"},
        {"How to": within("docs/howto")},
        {"Reference": within("docs")},
        {"Decisions": within("docs/decisions")},
        {"Model cards": within("models/cards")},
        {"Changes": "CHANGELOG.md"},
        {"Third-party software": "THIRD_PARTY.md"},
    ]


def list_decisions(folder: Path) -> list[str]:
    """A line for each decision, in the order of their numbers."""
    lines = []
    for page in sorted(folder.glob("[0-9]*.md")):
        number, _, title = _title(page).partition(". ")
        lines.append(f"- {number}: [{title}]({page.name})")
    return lines


def write_decisions(folder: Path) -> None:
    """Put the list into the folder's README, in the place of the one that is there."""
    readme = folder / "README.md"
    introduction = [line for line in readme.read_text().splitlines() if not line.startswith("- ")]
    readme.write_text("\n".join([*introduction, *list_decisions(folder)]) + "\n")


def with_lists_apart(text: str) -> str:
    """The same Markdown with an empty line before each list that begins right under a paragraph.

    GitHub sees a list there, the generator a longer paragraph.
    """
    lines: list[str] = []
    in_code = False
    for line in text.splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and lines and _LIST_ITEM.match(line) and not _NOT_TEXT.match(lines[-1]):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def serve(port: int) -> None:
    """Build, listen on 127.0.0.1 alone, and build again after each change, until Ctrl-C."""
    from watchfiles import watch  # noqa: PLC0415 - for this command alone

    build(SITE)
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        for _ in watch(*_watched(), recursive=True, raise_interrupt=False):
            try:
                build(SITE)
                print("built again", file=sys.stderr)
            except RuntimeError as error:
                print(error, file=sys.stderr)
    finally:
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who reads which page is nobody's matter."""


def _watched() -> Iterable[Path]:
    return [ROOT / name for name in (*TOP, *FOLDERS)]


def _title(page: Path) -> str:
    heading = next((line for line in page.read_text().splitlines() if line.startswith("# ")), f"# {page.stem}")
    return heading.removeprefix("# ").replace("`", "")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="build_site.py")
    commands = parser.add_subparsers(dest="command", required=True)
    to_build = commands.add_parser("build", help="build the site strictly")
    to_build.add_argument("directory", nargs="?", type=Path, default=SITE)
    commands.add_parser("decisions", help="write the list of decisions")
    to_serve = commands.add_parser("serve", help="build and serve the site on this machine")
    to_serve.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    try:
        if given.command == "serve":
            serve(given.port)
        elif given.command == "decisions":
            write_decisions(ROOT / "docs" / "decisions")
        else:
            build(given.directory.resolve())
            print(given.directory)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
