"""The command mlperf-llama: argv -> exit code. The only place that exits, and that handles signals.

stdout carries a verb's result (for `run`: the run folder's path, alone, last);
everything else goes to stderr.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from . import config
from .cli import parser, table
from .errors import EXIT_BROKE, EXIT_FAULT, EXIT_MISSING, Interrupted, PipelineError
from .settings import PREFIX
from .terminal import signals

# A full or read-only disk is the machine's trouble, not a bug of ours.
FILE_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE)
REMEDY = "`make doctor` shows the disks; RESULTS_DIR and CACHE_DIR choose others"


def set_up_logging(debug: bool) -> None:
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s")


def _say(prefix: str, message: str) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    start, end = ("\033[31m", "\033[0m") if colour else ("", "")
    print(f"{start}{prefix}:{end} {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    signals.install()
    arguments = parser.build().parse_args(argv)
    verb = table.BY_NAME[arguments.verb]
    try:
        env = config.environment()
        set_up_logging(bool(env.get(PREFIX + "DEBUG")))
        return verb.function(arguments, parser.flags(arguments), env)
    except PipelineError as error:
        # A source that cannot serve is no error yet: the chain says what comes next.
        next_source = verb.name in ("dataset", "model") and error.exit_code in (EXIT_MISSING, EXIT_BROKE)
        _say(f"{verb.name} not here" if next_source else "error", str(error))
        return error.exit_code
    except Interrupted as error:
        folder = getattr(arguments, "run_dir", None)
        further = f"; `make resume RUN_DIR={folder}` goes on with it" if folder else ""
        _say("interrupted", f"stopped before the end; what was finished is kept{further}")
        return error.exit_code
    except ModuleNotFoundError as error:
        _say("error", f"the Python package {error.name} is missing here; `make doctor` tells how to mend it")
        return EXIT_MISSING
    except OSError as error:
        if error.errno not in FILE_TROUBLE:
            traceback.print_exc()
        where = f" ({error.filename})" if error.filename else ""
        _say("error", f"expected to read and write files, found: {error.strerror}{where}; {REMEDY}")
        return EXIT_BROKE if error.errno in FILE_TROUBLE else EXIT_FAULT
    except Exception:
        traceback.print_exc()
        _say("error", "an unexpected fault, shown above; please report it")
        return EXIT_FAULT


if __name__ == "__main__":
    sys.exit(main())
