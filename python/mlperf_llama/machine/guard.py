"""In front of a command: it ends with the process that asked for it, also where that was killed, and so does
all that it started.

Who asks holds the other end of standard input. TERM is the command's own affair. Started by `in_front_of`.
Exit code: the command's; 128 and the signal's number where one ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from .processes import PACKAGE_FOLDER, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, end_children, prctl

EXIT_NOT_STARTED, EXIT_ALONE = 127, 1
# The command's environment need not lead to this package.
CODE = f"import sys; sys.path.append({str(PACKAGE_FOLDER)!r}); from {__name__} import main; main()"


def in_front_of(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-s", "-c", CODE, *command]


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    end_children()
    os._exit(EXIT_ALONE)


def _end_with_guard() -> None:
    """In the command, before it begins."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(command: list[str]) -> int:
    # What the command leaves behind becomes this process's child, where it is found.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_guard)
    except OSError as error:
        print(f"could not start {command[0]}: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_STARTED
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = process.wait()
    end_children()
    return code if code >= 0 else 128 - code


def main() -> None:
    code = _run(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # past the thread that reads
