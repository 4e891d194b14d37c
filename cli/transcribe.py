"""`./writecare transcribe`: transcribes recordings to one JSON line each, without the rest of the system.

Standard output has only the requested lines; progress and errors go to standard error. If a file fails, one line names
it and the other files are processed; the exit code is then 1.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.options import command_parser, parse_options, settings_for
from comms.kernel.settings import Settings
from models.contract.audio_tracks import CHANNELS_HELP, Channels
from models.contract.errors import WriteCareError, unavailable
from serving.placement import ReplicaSettings


def main(argv: Sequence[str]) -> int:
    """Run the command with its arguments (without its name); returns the exit code 0, 1 or 2."""
    options = parse_options(_parser(), argv)
    if isinstance(options, int):
        return options
    return run_transcribe(
        options.audio,
        settings_for(options),
        speakers=options.speakers,
        language=options.language,
        json_path=options.json,
        rttm_dir=options.rttm,
        channels=options.channels,
    )


def run_transcribe(
    paths: Sequence[str],
    settings: Settings,
    *,
    speakers: int | None,
    language: str | None,
    json_path: Path | None,
    rttm_dir: Path | None,
    channels: Channels = "auto",
) -> int:
    """Transcribe each source. Writes JSON lines to `json_path` or standard output, RTTM files to `rttm_dir`.

    The settings say which weights are used, on which device, and how long a recording may be, as for Ray Serve.
    Returns the exit code.
    """
    console = Console(stderr=True)
    failures: list[str] = []
    try:
        with ExitStack() as stack:
            out: IO[str] = sys.stdout
            if json_path is not None:
                out = stack.enter_context(json_path.open("w", encoding="utf-8"))
            if rttm_dir is not None:
                rttm_dir.mkdir(parents=True, exist_ok=True)
            progress = stack.enter_context(_progress(console))
            _transcribe_all(
                paths, settings, progress, failures, out=out, speakers=speakers, language=language, rttm_dir=rttm_dir,
                channels=channels,
            )  # fmt: skip
    # before the first file: missing weights or an output path that cannot be written
    except (WriteCareError, OSError) as error:
        failures.append(_error_sentence(error))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _transcribe_all(
    paths: Sequence[str],
    settings: Settings,
    progress: Progress,
    failures: list[str],
    *,
    out: IO[str],
    speakers: int | None,
    language: str | None,
    rttm_dir: Path | None,
    channels: Channels,
) -> None:
    loading = progress.add_task("loading the models", total=None)
    # Imported here: the imports take half a minute, which `--help` or a mistyped option need not wait for.
    from models.artefacts import weights  # noqa: PLC0415
    from models.speech.diarization import Diarizer  # noqa: PLC0415
    from models.speech.transcription import Transcriber  # noqa: PLC0415
    from pipelines import track_transcription  # noqa: PLC0415
    from pipelines.local_speech import SpeechInProcess  # noqa: PLC0415

    placement = ReplicaSettings.of(settings)
    try:
        transcriber = Transcriber(
            weights.whisper(placement.models, placement.speech),
            placement.recognition_options(),
        )
        found = weights.diarization_pipeline(placement.models, placement.speech)
        diarizer = Diarizer(found, device=placement.device)
    except (ValueError, RuntimeError) as error:  # raised by the libraries for an unknown model name or device
        raise unavailable(
            "models-not-loaded",
            f"The speech models cannot be loaded ({type(error).__name__}): {str(error).strip().partition(chr(10))[0]}",
        ) from None
    progress.remove_task(loading)
    task = progress.add_task("transcribing", total=len(paths))
    for path in paths:
        progress.update(task, description=f"transcribing {Path(path).name}")
        try:
            speech = SpeechInProcess(transcriber, diarizer)
            transcribed = track_transcription.transcribe_source(
                path, speech, max_seconds=settings.max_recording_seconds,
                allow_unconfined=settings.allow_unconfined_decoding, speakers=speakers, channels=channels,
                language=language,
            )  # fmt: skip
            result, _ = asyncio.run(transcribed)
            out.write(json.dumps(result, ensure_ascii=False) + "\n")
            out.flush()
            if rttm_dir is not None:
                name = Path(path).stem if "+" not in path else "+".join(Path(part).stem for part in path.split("+"))
                (rttm_dir / f"{name}.rttm").write_text(
                    track_transcription.rttm(result, name.replace(" ", "_")), encoding="utf-8"
                )
        except (WriteCareError, OSError) as error:
            failures.append(f"{path}: {_error_sentence(error)}")
        progress.advance(task)


def _error_sentence(error: WriteCareError | OSError) -> str:
    if isinstance(error, WriteCareError):
        return error.detail
    return f"{error.strerror or 'could not be read or written'} ({error.filename})"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("transcribe", "Transcribe recordings: who said what, when.")
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="a recording; tracks of one call as a.flac+b.flac")
    parser.add_argument("--speakers", type=_speaker_count, help="number of speakers, if known (single track)")
    parser.add_argument("--channels", choices=get_args(Channels), default="auto", help=CHANNELS_HELP)
    parser.add_argument(
        "--language", type=_language_code, help="the spoken language (ISO 639-1, e.g. en); detected if not given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON lines here instead of to stdout")
    parser.add_argument(
        "--rttm", type=Path, metavar="DIR", help="write one RTTM file per recording into this directory"
    )
    return parser


def _language_code(text: str) -> str:
    if re.fullmatch("[a-z]{2,3}", text) is None:
        raise argparse.ArgumentTypeError("must be a code of two or three lower-case letters")
    return text


def _speaker_count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 20:
        raise argparse.ArgumentTypeError("must be from 1 to 20")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
