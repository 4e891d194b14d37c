"""`./writecare COMMAND …`: runs the module of the command. It imports only that module.

Exit codes: 0 done, 1 failed (the last line on standard error says why), 2 wrong usage. Standard output has only the
requested output.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from comms.kernel.json_logging import write_json_logs
from models.contract.errors import WriteCareError
from models.telemetry import silence_telemetry

# command -> module with `main(argv) -> int`; the bash script `writecare` handles the other commands itself
COMMANDS: Final[dict[str, str]] = {
    "up": "cli.up",
    "token": "cli.token",
    "enrol": "cli.enrol",
    "database-url": "cli.database_url",
    "database": "cli.database",
    "verify-audit": "cli.verify_audit",
    "rotate-keys": "cli.rotate_keys",
    "demo": "cli.demo",
    "transcribe": "cli.transcribe",
    "analyze": "cli.analyze",
    "bench": "cli.bench",
}


def main(argv: Sequence[str]) -> int:
    """Runs the command `argv[0]` with the remaining arguments and returns its exit code."""
    if not argv or argv[0] not in COMMANDS:
        told = f"there is no command '{argv[0]}'" if argv else "name a command"
        print(f"writecare: {told}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        silence_telemetry()
        write_json_logs()  # to standard error: standard output has only the requested output
        code: int = importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])
        return code
    except WriteCareError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of standard output closed it early
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"{error.filename or 'writecare'}: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
