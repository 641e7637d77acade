"""The Makefile: help, settings that reach the scripts unchanged, targets that exist."""

from __future__ import annotations

import json
import re

import pytest

from mlperf_llama.settings import RENAMED, SHELL_NAMES, TABLE

from .conftest import ROOT, Sandbox

TARGET = re.compile(r"^([a-z-]+):[^=]*?## (.+)$", re.MULTILINE)


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """`make run` shows the MLPERF_ part of the environment it passes on."""
    sandbox.stub("launch.sh", folder=sandbox.root / "scripts")
    sandbox.on("launch.sh run", env=True)
    return sandbox


def passed_on(box: Sandbox, *words: str, **env: str) -> dict[str, str]:
    done = box.run("make", "run", *words, **env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    passed = json.loads(done.stdout)
    assert isinstance(passed, dict)
    del passed["MLPERF_VENV"]  # the sandbox's own
    return passed


def words_of(text: str, name: str) -> list[str]:
    match = re.search(rf"^{name} := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert match
    return match[1].replace("\\\n", " ").split()


def test_settings_are_those_of_the_package() -> None:
    text = (ROOT / "Makefile").read_text()
    assert words_of(text, "SETTINGS") == [s.name for s in TABLE]
    assert words_of(text, "SHELL_SETTINGS") == list(SHELL_NAMES)
    assert words_of(text, "RENAMED") == [f"{old}={new}" for old, new in RENAMED.items()]


def test_bare_make_prints_every_target_and_setting(sandbox: Sandbox) -> None:
    done = sandbox.run("make")
    assert (done.returncode, done.stderr) == (0, "")
    targets = TARGET.findall((ROOT / "Makefile").read_text())
    assert len(targets) >= 10
    for name, text in targets:
        assert re.search(rf"^  make {name} +{re.escape(text)}$", done.stdout, re.MULTILINE), name
    for name in [*(s.name for s in TABLE), *SHELL_NAMES]:
        assert re.search(rf"\b{name}\b", done.stdout), name


def test_every_target_is_phony_and_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    phony = listed.replace("\\\n", " ").split()
    rules = re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE)
    assert phony == rules == [name for name, _ in TARGET.findall(text)]


def test_every_script_of_a_recipe_exists_and_runs() -> None:
    scripts = re.findall(
        r"[\w./-]+\.sh\b", "".join(re.findall(r"^\t.*$", (ROOT / "Makefile").read_text(), re.M))
    )
    assert scripts
    for script in scripts:
        path = ROOT / script
        assert path.is_file(), script
        assert path.stat().st_mode & 0o111, script


def test_nothing_is_passed_on_that_was_not_set(box: Sandbox) -> None:
    assert passed_on(box) == {}


@pytest.mark.parametrize("name", [*(s.name for s in TABLE), *(n for n in SHELL_NAMES if n != "VENV")])
def test_every_setting_is_a_make_variable(box: Sandbox, name: str) -> None:
    assert passed_on(box, f"{name}=text") == {f"MLPERF_{name}": "text"}


@pytest.mark.parametrize(
    "value",
    [
        "two words",
        'it\'s "quoted"',
        "$HOME $(HOME) ${HOME} $$ $",
        "$(shell touch made-by-make)",
        "`touch made-by-shell` ; touch made-too",
        "# no comment",
        "back\\slash \\",
        "a=b:c,%d*?[x]{y}~!&|<>",
        "Überschrift",
        '{"fault": "die_at_load"}',
        "",
    ],
)
def test_any_value_survives(box: Sandbox, value: str) -> None:
    assert passed_on(box, f"SUBMITTER={value}") == {"MLPERF_SUBMITTER": value}
    assert not list(box.root.glob("made*"))


def test_the_environment_may_set_either_name(box: Sandbox) -> None:
    assert passed_on(box, SAMPLES="8") == {"MLPERF_SAMPLES": "8"}
    assert passed_on(box, MLPERF_SAMPLES="9") == {"MLPERF_SAMPLES": "9"}


def test_the_command_line_beats_the_environment(box: Sandbox) -> None:
    passed = passed_on(box, "SAMPLES=7", SAMPLES="8", MLPERF_SAMPLES="9")
    assert passed == {"MLPERF_SAMPLES": "7"}


def test_an_unknown_setting_stops_before_anything_starts(box: Sandbox) -> None:
    done = box.run("make", "run", "SAMPELS=8")
    assert done.returncode == 2
    assert "SAMPELS: not a setting" in done.stderr
    assert box.calls() == []


@pytest.mark.parametrize("origin", ["argument", "environment"])
def test_a_renamed_setting_stops_with_its_new_name(box: Sandbox, origin: str) -> None:
    for old, new in RENAMED.items():
        setting = {old: "8"} if origin == "environment" else {}
        done = box.run("make", "run", *(() if setting else (f"{old}=8",)), **setting)
        assert done.returncode == 2
        assert f"{old} was renamed: set {new}" in done.stderr
    assert box.calls() == []


def test_make_shows_the_real_command(box: Sandbox) -> None:
    done = box.run("make", "-n", "run")
    assert done.stdout == "scripts/launch.sh run\n"
    assert box.calls() == []


def test_a_failure_is_a_failure(box: Sandbox) -> None:
    box.on("launch.sh run", code=5, out="/results/x\n")
    done = box.run("make", "run")
    assert done.returncode == 2  # make knows no other
    assert done.stdout == "/results/x\n"
    assert "Error 5" in done.stderr


def test_a_run_folder_is_passed_as_one_word(box: Sandbox) -> None:
    box.run("make", "report", "RUN_DIR=results/a b")
    box.run("make", "report")
    assert box.words() == [
        ["launch.sh", "--native", "report", "--run-dir", "results/a b"],
        ["launch.sh", "--native", "report"],
    ]


@pytest.mark.parametrize(
    ("target", "given", "missing"),
    [("resume", (), "RUN_DIR"), ("compare", (), "A"), ("compare", ("A=x",), "B")],
)
def test_a_folder_that_is_needed_is_asked_for_in_one_line(
    box: Sandbox, target: str, given: tuple[str, ...], missing: str
) -> None:
    done = box.run("make", target, *given)
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "" and box.calls() == []
    assert first.startswith(f"error: {missing}: expected the folder of a")
    assert first.endswith(f"found nothing: make {target} {missing}=results/...")
    assert all(line.startswith("make: ***") for line in rest)


POISON = "$(shell touch made-by-make) `touch made-by-shell` $HOME $$ ;&\"' x"


@pytest.mark.parametrize("origin", ["argument", "environment"])
@pytest.mark.parametrize(
    ("target", "variables", "words"),
    [
        ("resume", ("RUN_DIR",), ["resume", POISON]),
        ("score", ("RUN_DIR",), ["--native", "score", "--run-dir", POISON]),
        ("report", ("RUN_DIR",), ["--native", "report", "--run-dir", POISON]),
        ("compare", ("A", "B"), ["--native", "compare", POISON, POISON]),
        ("check", ("SUBMISSION",), ["--native", "check", POISON]),
        ("plan", ("NEED",), ["--native", "plan", "--need", POISON]),
        ("auth", ("CHECK",), ["--native", "auth", "--check"]),
        ("auth", ("KEEP",), ["--native", "auth", "--keep", POISON]),
        ("compare", ("A", "B", "PAGE"), ["--native", "compare", POISON, POISON, "--page", POISON]),
    ],
)
def test_an_option_is_never_expanded(
    box: Sandbox, target: str, variables: tuple[str, ...], words: list[str], origin: str
) -> None:
    given = dict.fromkeys(variables, POISON)
    arguments = [] if origin == "environment" else [f"{name}={value}" for name, value in given.items()]
    done = box.run("make", target, *arguments, **({} if arguments else given))
    assert (done.returncode, done.stderr) == (0, "")
    assert box.words() == [["launch.sh", *words]]
    assert not list(box.root.rglob("made*"))


@pytest.mark.parametrize("name", ["HF_TOKEN", "CF_ACCESS_CLIENT_SECRET"])
def test_a_secret_on_the_command_line_is_never_expanded(box: Sandbox, name: str) -> None:
    (box.root / "scripts/launch.sh").write_text(f'#!/bin/sh\nprintf "%s" "${name}"\n')
    done = box.run("make", "run", f"{name}={POISON}")
    assert (done.returncode, done.stdout, done.stderr) == (0, POISON, "")
    assert not list(box.root.rglob("made*"))
