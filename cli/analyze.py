"""`./writecare analyze IN.jsonl OUT.jsonl`: writes concerns, sentiment, risk, summary and actions of conversations.

Runs the text models in this process, without the rest of the system. Writes one output line per non-empty input line,
in order. OUT appears only when it is complete: it is written to a temporary file beside OUT, which is then renamed. If
OUT is not a regular file (a pipe, a device, standard output), it is written to directly.
"""

import argparse
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.options import command_parser, parse_options, settings_for
from models.contract.errors import WriteCareError, invalid
from models.contract.json_lines import nonblank_lines
from models.contract.records import Analysis, Conversation, LanguageCoverage

_CONVERSATIONS_A_BATCH: Final = 64
_CONCERN_FIELDS: Final = {"category", "severity", "probability"}


def main(argv: Sequence[str]) -> int:
    """Run the command with its arguments (without its name); returns the exit code 0, 1 or 2."""
    options = parse_options(_parser(), argv)
    if isinstance(options, int):
        return options
    try:
        run_analyze(options.input, options.output, settings_for(options).data_dir)
    except WriteCareError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or options.output}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def run_analyze(source: Path, target: Path, data_dir: Path) -> None:
    """Analyse every conversation of `source` into `target`; `data_dir` holds the registry's champions, if any.

    Raises `WriteCareError` (`conversation-malformed`, naming the line; weights or artefacts missing) and `OSError`.
    """
    conversations = read_conversations(source)  # all lines are checked before a model is loaded
    with _progress(Console(stderr=True)) as progress:
        loading = progress.add_task("loading the models", total=None)
        # Imported here: importing these libraries takes seconds, which `--help` or a malformed line need not wait for.
        from models.text.analysis import TextModels, analyse_without_evidence  # noqa: PLC0415

        models = TextModels.load(data_dir)
        progress.remove_task(loading)
        reading = progress.add_task("reading conversations", total=len(conversations))

        def lines() -> Iterator[str]:
            for start in range(0, len(conversations), _CONVERSATIONS_A_BATCH):
                batch = conversations[start : start + _CONVERSATIONS_A_BATCH]
                yield from (
                    output_line(analysis) for analysis in analyse_without_evidence(batch, models)
                )  # this output has no evidence spans
                progress.advance(reading, len(batch))

        _write(target, lines())


def read_conversations(source: Path) -> list[Conversation]:
    """All conversations of a JSONL file; raises `conversation-malformed` for the first line that is not one."""
    with source.open("rb") as file:
        return [_conversation(number, line) for number, line in nonblank_lines(file)]


def output_line(analysis: Analysis) -> str:
    """The contract's JSON of one conversation, with unrounded probabilities.

    The language fields are present only if part of the conversation could not be analysed.
    """
    read_whole = analysis.language_supported and not analysis.unread_turns
    document = analysis.model_dump(mode="json", exclude=set(LanguageCoverage.model_fields) if read_whole else None)
    for turn in document["turns"]:
        turn["concerns"] = [
            {name: concern[name] for name in concern if name in _CONCERN_FIELDS} for concern in turn["concerns"]
        ]
    return json.dumps(document, ensure_ascii=False)


def _conversation(number: int, line: bytes) -> Conversation:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(number, "is not UTF-8") from None
    try:
        row = from_json(line)  # unlike `json`, it rejects lone surrogates and deep nesting cannot exhaust the stack
    except ValueError as error:
        raise _malformed(number, f"is not JSON ({str(error).replace(' at line 1 ', ', ')})") from None
    if not isinstance(row, dict):
        raise _malformed(number, "is not a JSON object")
    try:
        return Conversation.model_validate(_readable_fields(row))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the object"
        raise _malformed(number, f"is not a conversation: {place}: {first['msg']}") from None


def _readable_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Only the fields that the models may read. All other fields of the line are ignored."""
    kept = {name: row[name] for name in ("id", "channel", "participants", "turns") if row.get(name) is not None}
    for name, fields in (("participants", ("speaker", "role", "name")), ("turns", ("speaker", "text"))):
        if isinstance(kept.get(name), list):
            kept[name] = [_pick_fields(item, fields) for item in kept[name]]
    for turn in kept.get("turns", ()) if isinstance(kept.get("turns"), list) else ():
        if isinstance(turn, dict):
            turn.setdefault("speaker", None)
    return kept


def _pick_fields(item: Any, fields: Sequence[str]) -> Any:
    return {name: item[name] for name in fields if item.get(name) is not None} if isinstance(item, dict) else item


def _malformed(number: int, what: str) -> WriteCareError:
    return invalid("conversation-malformed", f"Line {number} {what}. Nothing was written.")


def _write(target: Path, lines: Iterator[str]) -> None:
    if _is_not_regular_file(target):
        with target.open("a", encoding="utf-8") as stream:  # not "w": `>> OUT` on standard output keeps earlier content
            stream.writelines(f"{line}\n" for line in lines)
    else:
        _write_atomically(target.resolve(), lines)  # a symlink stays; its target is replaced


def _is_not_regular_file(target: Path) -> bool:
    """Whether `target` exists and must not be replaced by a rename: a pipe, a device, our standard output."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(found.st_mode) or os.path.samestat(found, os.fstat(1))


def _write_atomically(target: Path, lines: Iterator[str]) -> None:
    """Writes beside `target`, then renames: a reader sees the complete new file or the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(f"{line}\n")
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("analyze", "Analyse conversations for concerns.")
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="one conversation per line")
    parser.add_argument("output", type=Path, metavar="OUT.jsonl", help="one analysis per line, in the same order")
    return parser
