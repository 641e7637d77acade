"""A clock of its own for LoadGen's process: slow, fast, or set by somebody while the run is at work.

A small library in front of the C library, made here by the compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COMPILER = shutil.which("cc") or shutil.which("gcc")
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    static long long begin[16];
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, out);
    if (id < 0 || id > 15) return code;
    long long now = out->tv_sec * 1000000000LL + out->tv_nsec;
    if (!begin[id]) begin[id] = now;
    long long passed = now - begin[id];
    now = begin[id] + (long long)(passed * SPEED);
    if (id == CLOCK_REALTIME && passed > AFTER_S * 1e9) now += STEP_S * 1000000000LL;
    out->tv_sec = now / 1000000000LL;
    out->tv_nsec = now % 1000000000LL;
    return code;
}
"""
# An environment whose Python preloads the clock for LoadGen's process, and for no other.
PYTHON = """#!/bin/bash
case "$*" in *loadgen.child*) export LD_PRELOAD={library} ;; esac
exec -a "$0" {python} "$@"
"""


@dataclass(frozen=True)
class Clock:
    """`speed`: of every clock; `step_s`: by which the time of day is set `after_s` seconds from the start."""

    speed: float = 1.0
    step_s: int = 0
    after_s: float = 0.0


def environment(folder: Path, clock: Clock) -> Path:
    """A folder for MLPERF_VENV: this environment under that clock."""
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    values = {"SPEED": clock.speed, "STEP_S": clock.step_s, "AFTER_S": clock.after_s}
    defined = [f"-D{name}={value}" for name, value in values.items()]
    command = [str(COMPILER), *defined, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    for name in ("lib", "loadgen", "nltk_data", "pyvenv.cfg"):
        if (Path(sys.prefix) / name).exists():
            (folder / name).symlink_to(Path(sys.prefix) / name)
    python = folder / "bin/python"
    python.parent.mkdir()
    real = os.path.realpath(sys.executable)
    python.write_text(PYTHON.format(library=library, python=real))
    python.chmod(0o755)
    return folder
