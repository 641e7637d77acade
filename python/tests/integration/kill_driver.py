"""Runs the verbs of a run, each time in a fork of one process that has imported everything: a kill costs
its moment, and not the seconds that imports take.

Reads lines of JSON, each a list of verbs with their arguments, and starts them one after the other in a
process of its own; the word "run_dir" in them is the folder that create-run printed. In the place of a verb
stands a list of several where codes 3 and 4 step on to the next, and ["python", PATH] names the Python that
LoadGen's process is started with. Answers with the process's id, then with how it ended (as os.waitpid gives
it). A line with a text alone names a tokenizer's folder, which is read once, for the same reason.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from mlperf_llama import __main__ as command
from mlperf_llama.bench import execute as _execute
from mlperf_llama.cli import run_verbs as _verbs
from mlperf_llama.errors import EXIT_BROKE, EXIT_MISSING
from mlperf_llama.machine import processes
from mlperf_llama.score import processes as _processes
from mlperf_llama.score import responses
from mlperf_llama.tune import tuner as _tuner

PRELOADED = (_execute, _verbs, _processes, _tuner)


def chain(steps: list[list[str] | list[list[str]]]) -> int:
    """Every step, until one ends with another code than 0; its code."""
    run_dir = ""
    for step in steps:
        if step[0] == "python":
            processes.MODULE_COMMAND[0] = str(step[1])
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = first_of(step, run_dir)
        for line in printed.getvalue().splitlines():
            if line.startswith("run_dir="):
                run_dir = line.partition("=")[2]
        if code:
            return code
    return 0


def first_of(step: list[str] | list[list[str]], run_dir: str) -> int:
    """A verb's code, or that of the last of several that was tried."""
    code = 0
    for words in step if isinstance(step[0], list) else [step]:
        code = command.main([run_dir if word == "run_dir" else str(word) for word in words])
        if code not in (EXIT_MISSING, EXIT_BROKE):
            break
    return code


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in sys.stdin:
        if line.startswith('"'):
            # The libraries that read a tokenizer import each other on demand.
            responses.decode([[1, 2, 3]], Path(json.loads(line)))
            continue
        pid = os.fork()
        if not pid:
            os.setsid()
            os.dup2(log, 1)
            os.dup2(log, 2)
            os._exit(chain(json.loads(line)))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
