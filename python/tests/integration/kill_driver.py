"""Runs the verbs of a run, each time in a fork of one process that has imported everything: a kill costs
its moment, and not the seconds that imports take.

Reads lines of JSON, each a list of verbs with their arguments, and starts them one after the other in a
process of its own; the word "run_dir" in them is the folder that create-run printed. Answers with the
process's id, then with how it ended (as os.waitpid gives it). A line with a text alone names a tokenizer's
folder, which is read once, for the same reason.
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
from mlperf_llama.score import processes as _processes
from mlperf_llama.score import responses
from mlperf_llama.tune import tuner as _tuner

PRELOADED = (_execute, _verbs, _processes, _tuner)


def chain(verbs: list[list[str]]) -> int:
    """Every verb, until one ends with another code than 0; its code."""
    run_dir = ""
    for words in verbs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = command.main([run_dir if word == "run_dir" else word for word in words])
        for line in printed.getvalue().splitlines():
            if line.startswith("run_dir="):
                run_dir = line.partition("=")[2]
        if code:
            return code
    return 0


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
