"""entrypoint.sh: verbs, the two chains, exit codes, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from .conftest import ROOT, Sandbox, alive, wait_for

RUN = "python -P -s -m mlperf_llama"
CREATED = "run_dir={dir}\ndataset_chain=mlcommons huggingface synthetic\nmodel_chain=mlcommons stand-in\n"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A stub for the package's Python: `create-run` answers with two chains."""
    sandbox.stub("python", folder=sandbox.venv / "bin")
    sandbox.on(f"{RUN} create-run", out=CREATED.format(dir="/tmp/a run"))
    sandbox.on(f"{RUN} execute", out="/tmp/a run\n")
    return sandbox


def test_the_default_verb_creates_a_run_tries_both_chains_and_executes(box: Sandbox) -> None:
    box.on(f"{RUN} model", out="noise of a source\n")
    done = box.run("./entrypoint.sh")
    assert (done.returncode, done.stdout) == (0, "/tmp/a run\n")
    assert "noise of a source" in done.stderr
    assert box.words() == [
        ["python", "-P", "-s", "-m", "mlperf_llama", "create-run"],
        ["python", "-P", "-s", "-m", "mlperf_llama", "model", "mlcommons", "--run-dir", "/tmp/a run"],
        ["python", "-P", "-s", "-m", "mlperf_llama", "dataset", "mlcommons", "--run-dir", "/tmp/a run"],
        ["python", "-P", "-s", "-m", "mlperf_llama", "execute", "--run-dir", "/tmp/a run"],
    ]


def test_flags_reach_create_run_unchanged(box: Sandbox) -> None:
    box.run("./entrypoint.sh", "run", "--dataset-source", "a b$c'd.json", "--samples", "4")
    assert box.words()[0][5:] == ["create-run", "--dataset-source", "a b$c'd.json", "--samples", "4"]


def test_resume_takes_up_the_folder(box: Sandbox) -> None:
    done = box.run("./entrypoint.sh", "resume", "/tmp/a run")
    assert (done.returncode, done.stdout) == (0, "/tmp/a run\n")
    assert box.words()[0][5:] == ["create-run", "--resume", "/tmp/a run"]
    assert box.words()[-1][5:] == ["execute", "--run-dir", "/tmp/a run"]


@pytest.mark.parametrize("code", [3, 4])
def test_the_chain_steps_on_and_says_so_in_one_line(box: Sandbox, code: int) -> None:
    box.on(f"{RUN} dataset mlcommons", code=code)
    box.on(f"{RUN} dataset huggingface", code=7 - code)
    done = box.run("./entrypoint.sh", "run")
    assert done.returncode == 0
    sources = [c.split()[6] for c in box.calls() if c.startswith(f"{RUN} dataset")]
    assert sources == ["mlcommons", "huggingface", "synthetic"]
    lines = [line for line in done.stderr.splitlines() if "dataset chain:" in line]
    assert len(lines) == 2
    assert f"mlcommons ended with {code}" in lines[0] and lines[0].endswith("next: huggingface")
    assert f"huggingface ended with {7 - code}" in lines[1] and lines[1].endswith("next: synthetic")


@pytest.mark.parametrize("code", [1, 2, 5])
def test_any_other_code_stops_the_chain(box: Sandbox, code: int) -> None:
    box.on(f"{RUN} model mlcommons", code=code)
    done = box.run("./entrypoint.sh", "run")
    assert (done.returncode, done.stdout) == (code, "")
    assert [c.removeprefix(RUN).split()[0] for c in box.calls()] == ["create-run", "model", "finalize-run"]
    assert box.calls()[-1] == f"{RUN} finalize-run --run-dir /tmp/a run --status failed"


def test_an_exhausted_chain_ends_with_the_last_code_and_a_summary(box: Sandbox) -> None:
    box.on(f"{RUN} dataset", code=3)
    box.on(f"{RUN} dataset synthetic", code=4)
    done = box.run("./entrypoint.sh", "run")
    assert (done.returncode, done.stdout) == (4, "")
    summary = done.stderr.splitlines()[-1]
    assert "mlcommons: something is missing (3), huggingface: something is missing (3)" in summary
    assert "synthetic: started and broke (4)" in summary
    assert box.calls()[-1] == f"{RUN} finalize-run --run-dir /tmp/a run --status failed"


def test_a_wrong_setting_starts_nothing(box: Sandbox) -> None:
    box.on(f"{RUN} create-run", code=2, err="error: SAMPLES: expected a count\n")
    done = box.run("./entrypoint.sh", "run", "--samples", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a count" in done.stderr
    assert len(box.calls()) == 1


def test_the_run_decides_the_exit_code(box: Sandbox) -> None:
    box.on(f"{RUN} execute", code=5, out="/tmp/a run\n")
    done = box.run("./entrypoint.sh")
    assert (done.returncode, done.stdout) == (5, "/tmp/a run\n")


def test_other_verbs_become_the_python_process(box: Sandbox) -> None:
    box.on(f"{RUN} report", code=3, out="words")
    done = box.run("./entrypoint.sh", "report", "--run-dir", "a b")
    assert (done.returncode, done.stdout) == (3, "words")
    assert box.words() == [["python", "-P", "-s", "-m", "mlperf_llama", "report", "--run-dir", "a b"]]


HELP = [
    "--help",
    "-h",
    "--version",
    "run --help",
    "run --hel",
    "run --samples 4 -h",
    "resume --help",
    "resume folder -h",
    "tune --help",
    "submission --help",
    "report --help",
]


@pytest.mark.parametrize("line", HELP)
def test_help_is_pythons_and_nothing_else_happens(box: Sandbox, line: str) -> None:
    box.on(f"{RUN} {line}", out="usage: text\n")
    done = box.run("./entrypoint.sh", *line.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "usage: text\n", "")
    assert box.calls() == [f"{RUN} {line}"]


@pytest.mark.parametrize(("line", "called"), [("help", "--help"), ("help run", "run --help")])
def test_help_may_be_the_verb(box: Sandbox, line: str, called: str) -> None:
    assert box.run("./entrypoint.sh", *line.split()).returncode == 0
    assert box.calls() == [f"{RUN} {called}"]


def test_the_real_help_lists_what_a_person_types() -> None:
    """On stdout, alone; what only the scripts call is hidden."""
    environment = {**os.environ, "MLPERF_VENV": sys.prefix, "MLPERF_ENV_FILE": "/dev/null"}
    for words in (["help"], ["submission", "--help"], ["resume", "--help"], ["tune", "-h"], ["run", "-h"]):
        done = subprocess.run(
            [ROOT / "entrypoint.sh", *words], capture_output=True, text=True, timeout=60, env=environment
        )
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.startswith("usage: mlperf-llama "), words
        if words == ["help"]:
            listed = re.findall(r"^ {4}([a-z-]+)", done.stdout, re.MULTILINE)
            assert {"run", "resume", "tune", "submission", "check", "doctor"} <= set(listed)
            assert not {"create-run", "execute", "dataset"} & set(listed)


def test_a_verb_that_does_not_exist_ends_with_one_line() -> None:
    done = subprocess.run(
        [ROOT / "entrypoint.sh", "benchmark"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MLPERF_VENV": sys.prefix},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_word_that_holds_help_is_not_a_call_for_it(box: Sandbox) -> None:
    box.run("./entrypoint.sh", "run", "--submitter", "a --help b")
    assert box.words()[0][5:] == ["create-run", "--submitter", "a --help b"]


@pytest.mark.parametrize("arguments", [[], ["/tmp/a run", "/tmp/b"], ["/tmp/a run", "--samples", "4"]])
def test_resume_takes_one_folder_and_nothing_else(box: Sandbox, arguments: list[str]) -> None:
    done = box.run("./entrypoint.sh", "resume", *arguments)
    assert (done.returncode, done.stdout, box.calls()) == (2, "", [])
    assert done.stderr.count("\n") == 1 and "resume FOLDER" in done.stderr


def test_tune_and_submission_create_runs_of_their_kind(box: Sandbox) -> None:
    box.run("./entrypoint.sh", "tune", "--samples", "4")
    assert box.words()[0][5:] == ["create-run", "--tune", "--samples", "4"]
    box.log.unlink()
    box.on(f"{RUN} pack", out="/tmp/tree\n")
    done = box.run("./entrypoint.sh", "submission", "--samples", "4")
    assert (done.returncode, done.stdout) == (0, "/tmp/tree\n")
    assert box.words()[0][5:] == ["create-run", "--submission", "--samples", "4"]
    assert box.calls()[-1] == f"{RUN} pack --samples 4"


def test_a_submission_whose_runs_fail_is_not_packed(box: Sandbox) -> None:
    box.on(f"{RUN} execute", code=5)
    assert box.run("./entrypoint.sh", "submission").returncode == 5
    assert not any("pack" in call for call in box.calls())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["model mlcommons", "dataset huggingface"])
def test_an_interrupted_source_sets_the_status(box: Sandbox, number: signal.Signals, stage: str) -> None:
    box.on(f"{RUN} dataset mlcommons", code=3)
    box.on(f"{RUN} {stage}", sleep=300)
    done = box.interrupt(["./entrypoint.sh", "run"], number, f"{RUN} {stage}")
    assert done.returncode == 128 + number
    assert done.stdout == ""
    assert box.calls()[-1] == f"{RUN} finalize-run --run-dir /tmp/a run --status interrupted"
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_create_run_leaves_no_child(box: Sandbox, number: signal.Signals) -> None:
    box.on(f"{RUN} create-run", sleep=300)
    done = box.interrupt(["./entrypoint.sh"], number, f"{RUN} create-run")
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert box.calls() == [f"{RUN} create-run"]
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")


def test_a_source_that_was_itself_interrupted_ends_everything(box: Sandbox) -> None:
    box.on(f"{RUN} model mlcommons", code=130)
    done = box.run("./entrypoint.sh")
    assert done.returncode == 130
    assert box.calls()[-1] == f"{RUN} finalize-run --run-dir /tmp/a run --status interrupted"


def test_the_last_act_is_exec(box: Sandbox) -> None:
    """The signal reaches Python itself: no shell is left between."""
    box.on(f"{RUN} execute", sleep=300)
    process = box.start("./entrypoint.sh")
    wait_for(lambda: any(c.startswith(f"{RUN} execute") for c in box.calls()), "execute was not started")
    assert alive(str(box.log)) == [process.pid]
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_the_way_to_go_on_is_said_before_anything_can_be_killed(box: Sandbox) -> None:
    done = box.run("./entrypoint.sh")
    first = done.stderr.splitlines()[0]
    assert "run folder: /tmp/a run" in first
    assert r"make resume RUN_DIR=/tmp/a\ run" in first


def test_a_source_that_was_killed_is_named_with_the_way_to_go_on(box: Sandbox) -> None:
    box.on(f"{RUN} dataset mlcommons", code=137)
    done = box.run("./entrypoint.sh")
    assert done.returncode == 137
    assert "dataset mlcommons was killed" in done.stderr.splitlines()[-1]
    assert r"make resume RUN_DIR=/tmp/a\ run" in done.stderr.splitlines()[-1]


def test_no_folder_for_temporary_files_is_needed(box: Sandbox) -> None:
    done = box.run("./entrypoint.sh", TMPDIR="/nowhere")
    assert (done.returncode, done.stdout) == (0, "/tmp/a run\n"), done.stderr


def test_debug_shows_each_step_and_its_code(box: Sandbox) -> None:
    box.on(f"{RUN} model mlcommons", code=3)
    done = box.run("./entrypoint.sh", MLPERF_VERBOSITY="debug")
    assert done.stdout == "/tmp/a run\n"
    assert "debug: model mlcommons --run-dir /tmp/a run" in done.stderr
    assert "debug: model ended with 3" in done.stderr
    assert "debug:" not in box.run("./entrypoint.sh").stderr


@pytest.mark.parametrize("ending", ["2>/dev/full", "2>&-", "<&- >&- 2>&-", "2> >(exit)"])
def test_messages_that_nobody_can_read_end_no_run(box: Sandbox, ending: str) -> None:
    box.on(f"{RUN} dataset mlcommons", code=3)
    done = box.run("bash", "-c", f"./entrypoint.sh {ending}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if ">&- 2" in ending else "/tmp/a run\n")
    assert box.calls()[-1].startswith(f"{RUN} execute")


def test_an_error_that_nobody_can_read_keeps_its_code(box: Sandbox) -> None:
    box.on(f"{RUN} dataset", code=4)
    assert box.run("bash", "-c", "./entrypoint.sh 2>/dev/full").returncode == 4
