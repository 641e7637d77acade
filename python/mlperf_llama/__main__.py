"""Verbs: argv -> exit code. The only place that exits, and that handles signals.

stdout carries a verb's result (for `run`: the run folder's path, alone, last);
everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from . import config
from .cli import verbs
from .errors import EXIT_BROKE, EXIT_FAULT, EXIT_MISSING, EXIT_USAGE, Interrupted, PipelineError
from .settings import TABLE
from .terminal import signals

# A full or read-only disk is the machine's trouble, not a bug of ours.
FILE_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE)
REMEDY = "`make doctor` shows the disks; RESULTS_DIR and CACHE_DIR choose others"


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_USAGE, f"error: {message}; `{self.prog} --help` lists what is known\n")


def build_parser() -> argparse.ArgumentParser:
    """One sub-parser a verb, from verbs.VERBS; settings become flags where a verb takes them."""
    parser = Parser(prog="mlperf-llama", description="MLPerf Inference for Llama-3.1-8B")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="verb", parser_class=Parser)
    for verb in verbs.VERBS:
        command = commands.add_parser(verb.name, help=verb.help, description=verb.help)
        for names, options in verb.arguments:
            command.add_argument(*names, **options)
        if verb.settings:
            for setting in TABLE:
                command.add_argument(setting.flag, metavar=setting.name, dest="set_" + setting.name)
    return parser


def set_up_logging() -> None:
    level = logging.DEBUG if os.environ.get("MLPERF_DEBUG") else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s")


def _say(prefix: str, message: str) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    start, end = ("\033[31m", "\033[0m") if colour else ("", "")
    print(f"{start}{prefix}:{end} {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    signals.install()
    set_up_logging()
    arguments = build_parser().parse_args(argv)
    verb = verbs.BY_NAME[arguments.verb]
    flags = {k.removeprefix("set_"): v for k, v in vars(arguments).items() if k.startswith("set_") and v}
    try:
        return verb.handler(arguments, flags, config.environment())
    except PipelineError as error:
        # A rung that cannot serve is no error yet: the chain says what comes next.
        left = verb.name in ("dataset", "model") and error.exit_code in (EXIT_MISSING, EXIT_BROKE)
        _say(f"{verb.name} not here" if left else "error", str(error))
        return error.exit_code
    except Interrupted as error:
        _say("interrupted", "stopped before the end; what was finished is kept")
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
