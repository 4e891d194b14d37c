"""`./writecare COMMAND …`: hands over to the command's own module, which alone is imported.

Exit codes: 0 done, 1 failed (with one clear line last on standard error), 2 wrong use. Standard output carries what
was asked for, nothing else.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from comms.kernel.json_logging import write_json_logs
from models.contract.errors import WriteCareError
from models.telemetry import silence_telemetry

# command -> module with `main(argv) -> int`; the bash script answers the others itself
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
    """Runs `argv[0]` with the rest; the exit code."""
    if not argv or argv[0] not in COMMANDS:
        told = f"there is no command '{argv[0]}'" if argv else "name a command"
        print(f"writecare: {told}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        silence_telemetry()
        write_json_logs()  # to standard error: standard output is for what was asked
        code: int = importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])
        return code
    except WriteCareError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read standard output has seen enough
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"{error.filename or 'writecare'}: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
