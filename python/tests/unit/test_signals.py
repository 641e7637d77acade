"""A source ends with the script that waits for it, also where that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import mlperf_llama

SOURCE = """
import sys, time
from mlperf_llama.errors import Interrupted
from mlperf_llama.terminal import signals
signals.install()
signals.end_with_parent()
try:
    print("at work", flush=True)
    time.sleep(60)
except Interrupted:
    print("interrupted", flush=True)
"""
SCRIPT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""


def test_it_is_interrupted_when_its_script_is_gone() -> None:
    env = {"PYTHONPATH": str(Path(mlperf_llama.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, SOURCE]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "at work\n"
        script.send_signal(signal.SIGKILL)
        assert script.stdout.read() == "interrupted\n"
