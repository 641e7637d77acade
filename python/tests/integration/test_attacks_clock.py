"""A clock ten times slow in LoadGen's process alone: it sees ten times the speed, and nobody else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attacks
import pytest
from pipeline_runs import Ended

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler is here to make the clock with"),
]
SLOW = 10
SAMPLES_PER_S = 190.0
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
    now = begin[id] + (now - begin[id]) / SLOW;
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


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    command = [str(COMPILER), f"-DSLOW={SLOW}", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    for name in ("lib", "loadgen", "nltk_data", "pyvenv.cfg"):
        if (Path(sys.prefix) / name).exists():
            (folder / name).symlink_to(Path(sys.prefix) / name)
    python = folder / "bin/python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(library=library, python=os.path.realpath(sys.executable)))
    python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def ended(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    fake = f'{{"samples_per_s": {SAMPLES_PER_S}}}'
    settings = {"SAMPLES": 40, "MODE": "performance", "TARGET_QPS": 600, "DURATION_S": 1, "FAKE": fake}
    return attacks.fake_run(tmp_path_factory.mktemp("clock"), {"MLPERF_VENV": str(environment)}, **settings)


def test_loadgen_s_speed_is_not_believed(ended: Ended) -> None:
    performance = ended.read("results.json")["scenarios"]["Offline"]["performance"]
    assert performance["samples_per_second"] > 5 * SAMPLES_PER_S, "LoadGen was not deceived"
    assert "LoadGen's longest latency" in attacks.failed(ended)["Offline.performance.clock"]
    assert performance["driven"]["samples"] / performance["driven"]["seconds"] < 1.2 * SAMPLES_PER_S
