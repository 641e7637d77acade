"""The pipeline's exceptions and their exit codes (mirrored once in scripts/lib.sh).

A message says what was expected, what was found and what to do, in one line.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_MISSING = 3
EXIT_BROKE = 4
EXIT_INVALID = 5
EXIT_INT = 130
EXIT_TERM = 143
# For people, at the end of a run.
MEANINGS = {
    EXIT_OK: "finished and valid",
    EXIT_FAULT: "an unexpected fault",
    EXIT_USAGE: "a wrong setting or input file",
    EXIT_MISSING: "something is missing here",
    EXIT_BROKE: "started and broke",
    EXIT_INVALID: "finished but not valid",
    EXIT_INT: "interrupted",
    EXIT_TERM: "interrupted",
}


class PipelineError(Exception):
    """An expected failure: one line for the user and an exit code."""

    exit_code = EXIT_FAULT


class UsageError(PipelineError):
    """A setting, a flag or an input file is wrong; nothing was started."""

    exit_code = EXIT_USAGE


class MissingError(PipelineError):
    """Something is not here: GPU, weights, data, package, token. The chain goes on."""

    exit_code = EXIT_MISSING


class BrokeError(PipelineError):
    """Something started and broke, or was killed. The chain goes on."""

    exit_code = EXIT_BROKE


class InvalidError(PipelineError):
    """Finished but not valid: LoadGen INVALID, or an eligible score under its target."""

    exit_code = EXIT_INVALID


class Interrupted(BaseException):
    """INT or TERM arrived. Not an Exception, so that no handler swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.exit_code = 128 + signal_number
