"""The command mlperf-llama: argv -> exit code. The only place that exits, and that handles signals.

stdout carries a verb's result (for `run`: the run folder's path, alone, last);
everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import config
from .cli import parser, table
from .credentials import redaction
from .errors import (
    EXIT_BROKE,
    EXIT_FAULT,
    EXIT_INVALID,
    EXIT_MISSING,
    EXIT_OK,
    EXIT_USAGE,
    MEANINGS,
    Interrupted,
    PipelineError,
)
from .settings import DEBUG
from .terminal import outputs, signals

# A full, read-only or failing disk is the machine's trouble, not a bug of ours.
FILE_TROUBLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE),
    *(errno.EIO, errno.ESTALE, errno.EFBIG, errno.ETXTBSY),
)
# No file can have such a name.
NAME_TROUBLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
# How libraries in Rust (tokenizers, safetensors) write an error of the system into their own exceptions.
FOREIGN_ERROR = re.compile(r"\(os error (\d+)\)")
LONGEST_NAME = 120
REMEDY = "`make doctor` shows the disks; RESULTS_DIR and CACHE_DIR choose others"


class _Formatter(logging.Formatter):
    """A message may hold what a server or a file said: its control characters are shown."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = redaction.visible(record.message)
        return super().formatMessage(record)


def set_up_logging(debug: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.WARNING)


def _say(prefix: str, message: str) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    start, end = ("\033[31m", "\033[0m") if colour else ("", "")
    print(f"{start}{prefix}:{end} {redaction.visible(message)}", file=sys.stderr)


def _end(code: int, run_dir: Path | None) -> str:
    """The exit code in words, and the command that goes on with a run that has not finished."""
    goes_on = run_dir is not None and code != EXIT_INVALID
    resume = f"; `make resume RUN_DIR={shlex.quote(str(run_dir))}` goes on with it" if goes_on else ""
    return f"exit code {code}: {MEANINGS[code]}{redaction.visible(resume)}"


def main(argv: Sequence[str] | None = None) -> int:
    code = EXIT_OK
    with outputs.guarded():
        try:
            try:
                code = _main(argv)
            finally:
                sys.stdout.flush()
        except PipelineError as error:
            _say("error", str(error))
            code = code or error.exit_code
    return code


def _main(argv: Sequence[str] | None) -> int:
    signals.install()
    arguments = parser.build().parse_args(argv)
    with redaction.streams():
        return _run(table.BY_NAME[arguments.verb], arguments)


def _system_error(error: BaseException) -> OSError | None:
    """The system's error that an exception is, or that a library wrote into its own."""
    if isinstance(error, OSError):
        return error
    number = FOREIGN_ERROR.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


def _end_of(error: Exception) -> int:
    """Say what an exception that nobody expected is; its exit code."""
    system = _system_error(error)
    known = system.errno if system else None
    if known not in FILE_TROUBLE + NAME_TROUBLE:
        traceback.print_exception(error)
    if system is None:
        _say("error", "an unexpected fault, shown above; please report it")
        return EXIT_FAULT
    name = redaction.visible(os.fsdecode(system.filename)) if isinstance(system.filename, str | bytes) else ""
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}... ({len(name)} characters)"
    cause = f"{system.strerror}{f' ({name})' if name else ''}"
    if known in NAME_TROUBLE:
        _say("error", f"expected a name that a file or folder can have, found: {cause}")
        return EXIT_USAGE
    _say("error", f"expected to read and write files, found: {cause}; {REMEDY}")
    return EXIT_BROKE if known in FILE_TROUBLE else EXIT_FAULT


def _run(verb: table.Verb, arguments: argparse.Namespace) -> int:
    try:
        env = config.environment()
        redaction.install(env)
        flags = parser.flags(arguments)
        set_up_logging(config.verbosity(env, flags) == DEBUG)
        return verb.function(arguments, flags, env)
    except PipelineError as error:
        # A source that cannot serve is no error yet: the chain says what comes next.
        next_source = verb.name in ("dataset", "model") and error.exit_code in (EXIT_MISSING, EXIT_BROKE)
        if verb.name == "execute":
            print(_end(error.exit_code, arguments.run_dir), file=sys.stderr)
        _say(f"{verb.name} not here" if next_source else "error", str(error))
        return error.exit_code
    except Interrupted as error:
        end = _end(error.exit_code, getattr(arguments, "run_dir", None))
        _say("interrupted", f"stopped before the end; what was finished is kept; {end}")
        return error.exit_code
    except ModuleNotFoundError as error:
        _say("error", f"the Python package {error.name} is missing here; `make doctor` tells how to mend it")
        return EXIT_MISSING
    except Exception as error:
        return _end_of(error)


if __name__ == "__main__":
    sys.exit(main())
