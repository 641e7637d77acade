"""The command line: help, version, verbs, the way to entrypoint.sh, and what every failure becomes."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mlperf_llama import __main__ as command
from mlperf_llama import __version__, errors
from mlperf_llama.cli import entrypoint, parser, table
from mlperf_llama.settings import RENAMED, TABLE

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60
# Every connection fails at once.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
# Each --help, then the doctor, in a Python that finds no package but ours (-S).
BARE = """
import sys
sys.path.insert(0, sys.argv[1])
from mlperf_llama.__main__ import main
from mlperf_llama.cli import table
for verb in table.VERBS:
    try:
        main([verb.name, "--help"])
    except SystemExit as end:
        assert end.code == 0, verb.name
print("DOCTOR")
sys.exit(main(["doctor", "--json"]))
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, no settings, and pytest's own handling of signals and logs."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("MLPERF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(command.signals, "install", lambda: None)
    monkeypatch.setattr(command, "set_up_logging", lambda debug: None)


def flat(text: str) -> str:
    """Without argparse's line breaks, which may also follow a hyphen."""
    return re.sub(r"\s+", "", text)


def ends_with(code: int, *argv: str) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(argv)
    assert end.value.code == code


def test_help_lists_what_a_person_types_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(0, "--help")
    listed = re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == [verb.name for verb in table.USER]
    assert listed[:4] == ["run", "resume", "tune", "submission"]
    assert {"create-run", "finalize-run", "execute", "dataset", "model", "assets"} <= {
        verb.name for verb in table.INTERNAL
    }


@pytest.mark.parametrize("verb", table.VERBS, ids=lambda verb: verb.name)
def test_help_of_a_verb_is_printed_and_nothing_is_done(
    verb: table.Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*_: object) -> int:
        raise AssertionError("--help did something")

    monkeypatch.setitem(table.BY_NAME, verb.name, replace(verb, function=never))
    ends_with(0, verb.name, "--help")
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"usage: mlperf-llama {verb.name} ")
    assert flat(verb.help[1:]) in flat(out)
    for setting in TABLE:
        shown = flat(f"{setting.flag} {setting.name} {setting.explanation}") in flat(out)
        assert shown == verb.settings, setting.name
        if verb.settings:
            assert flat(f"{setting.explanation} (default: {setting.default or 'empty'})") in flat(out)
    assert not any(f"--{name.lower().replace('_', '-')}" in out for name in RENAMED)
    assert list(tmp_path.iterdir()) == []


def test_every_argument_has_help() -> None:
    [verbs] = [a for a in parser.build()._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(verbs.choices) == set(table.BY_NAME)
    for name, sub in verbs.choices.items():
        for action in sub._actions:
            assert action.help, f"{name}: {action.option_strings or action.dest}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(0, "--version")
    assert capsys.readouterr() == (f"mlperf-llama {__version__}\n", "")


@pytest.mark.parametrize(
    "argv", [(), ("open",), ("run", "--quux", "1"), ("resume",), ("execute",), ("compare", "a")]
)
def test_a_wrong_command_line_is_one_line_with_code_2(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(errors.EXIT_USAGE, *argv)
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"error: .+ --help` lists what is known\n", err)
    assert "create-run" not in err


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_flag_tells_the_new_one(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    old_flag, new_flag = (f"--{name.lower().replace('_', '-')}" for name in (old, new))
    assert command.main(["plan", old_flag, "5"]) == errors.EXIT_USAGE
    assert capsys.readouterr().err == f"error: {old_flag} was renamed: give {new_flag}\n"


def test_flags_reach_a_verb_by_the_settings_names(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def function(arguments: argparse.Namespace, flags: Mapping[str, str], env: Mapping[str, str]) -> int:
        seen.append((arguments.verb, dict(flags), env["MLPERF_SEED"]))
        return 7

    monkeypatch.setenv("MLPERF_SEED", "3")
    monkeypatch.setitem(table.BY_NAME, "plan", replace(table.BY_NAME["plan"], function=function))
    assert command.main(["plan", "--target-qps", "2.5", "--model", ""]) == 7
    assert seen == [("plan", {"TARGET_QPS": "2.5"}, "3")]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.UsageError("no such"), 2, "error: no such"),
        (errors.MissingError("no GPU"), 3, "error: no GPU"),
        (errors.BrokeError("died"), 4, "error: died"),
        (errors.InvalidError("too slow"), 5, "error: too slow"),
        (errors.Interrupted(signal.SIGINT), 130, "interrupted: "),
        (errors.Interrupted(signal.SIGTERM), 143, "interrupted: "),
        (ModuleNotFoundError("x", name="rich"), 3, "error: the Python package rich is missing"),
        (OSError(errno.ENOSPC, "No space left", "/full"), 4, "error: expected to read and write files"),
        (OSError(errno.EBADF, "Bad descriptor"), 1, "error: expected to read and write files"),
        (ValueError("a bug"), 1, "error: an unexpected fault"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_every_failure_is_an_exit_code_and_a_last_line(
    error: BaseException,
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> int:
        raise error

    monkeypatch.setitem(table.BY_NAME, "plan", replace(table.BY_NAME["plan"], function=fails))
    assert command.main(["plan"]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith(line)
    assert ("Traceback" in err) == (code == errors.EXIT_FAULT)


def test_an_interruption_tells_the_command_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> int:
        raise errors.Interrupted(signal.SIGINT)

    monkeypatch.setitem(table.BY_NAME, "execute", replace(table.BY_NAME["execute"], function=stopped))
    assert command.main(["execute", "--run-dir", "results/a run"]) == 130
    assert "`make resume RUN_DIR='results/a run'` goes on with it" in capsys.readouterr().err


def test_a_source_that_is_not_here_is_no_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise errors.MissingError("no token")

    monkeypatch.setitem(table.BY_NAME, "model", replace(table.BY_NAME["model"], function=fails))
    assert command.main(["model", "huggingface", "--run-dir", "x"]) == errors.EXIT_MISSING
    assert capsys.readouterr().err == "model not here: no token\n"


@pytest.mark.parametrize(("line", "debug"), [("MLPERF_VERBOSITY=debug", True), ("MLPERF_VERBOSITY=", False)])
def test_debug_may_stand_in_the_env_file(
    line: str, debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(command, "set_up_logging", seen.append)
    monkeypatch.setitem(table.BY_NAME, "plan", replace(table.BY_NAME["plan"], function=lambda *_: 0))
    (tmp_path / ".env").write_text(line + "\n")
    assert command.main(["plan"]) == 0
    assert seen == [debug]


# The four verbs that entrypoint.sh arranges


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run"], ["run"]),
        (["tune", "--target-qps", "5", "--model", "a b"], ["tune", "--target-qps=5", "--model=a b"]),
        (["submission", "--submitter=x"], ["submission", "--submitter=x"]),
        (["resume", "results/a b"], ["resume", "results/a b"]),
    ],
)
def test_a_chain_becomes_entrypoint_sh(
    argv: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def execv(path: Path, argv: list[str]) -> None:
        started.append((path, argv, os.environ.get("MLPERF_VENV")))
        raise errors.Interrupted(signal.SIGTERM)  # execv never returns

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setenv("MLPERF_VENV", "")
    command.main(argv)
    [(path, called, venv)] = started
    assert path == ROOT / "entrypoint.sh"
    assert called == [str(path), *words]
    assert venv == sys.prefix


def test_an_environment_that_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(os, "execv", lambda *_: seen.append(os.environ["MLPERF_VENV"]))
    monkeypatch.setenv("MLPERF_VENV", "/elsewhere")
    entrypoint.become(["run"], os.environ)
    assert seen == ["/elsewhere"]


def test_a_package_installed_alone_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "lib" / "site-packages" / "mlperf_llama"
    alone.mkdir(parents=True)
    (tmp_path / "lib" / "entrypoint.sh").touch()  # somebody else's
    monkeypatch.setattr(entrypoint, "PACKAGE", alone)
    assert command.main(["run"]) == errors.EXIT_MISSING
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "checkout" in err and "docker run" in err


def test_run_goes_through_the_real_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlperf_llama", "run", "--samples", "-1"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (errors.EXIT_USAGE, "")
    assert done.stderr.startswith("error: --samples: expected a whole number")


def test_help_and_doctor_need_no_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BARE, str(ROOT / "python")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **NO_NETWORK},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode in (errors.EXIT_OK, errors.EXIT_MISSING), done.stderr
    assert "missing here" not in done.stderr and "Traceback" not in done.stderr
    findings = json.loads(done.stdout.split("DOCTOR\n")[1])["findings"]
    assert {"Python", "environment", "memory"} <= {finding["name"] for finding in findings}
