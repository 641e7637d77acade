"""Every command that a page shows is one that this repository has, with settings and flags it takes.

A command is a line of a `bash` block, a line behind `$ ` of a `text` block, or a piece of inline code that
begins with a program of ours. A program that is not ours has to stand in NEEDS, with what it needs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs import OTHER_VARIABLES, PAGES, ROOT

from mlperf_llama import config
from mlperf_llama.cli import parser
from mlperf_llama.errors import UsageError
from mlperf_llama.settings import BY_NAME

NEEDS = {
    "docker": "a Docker engine; tests/shell has a stand-in, `make test-image` the real one",
    "jq": "jq",
    "nvidia-ctk": "NVIDIA's container toolkit",
    "pip": "a package registry",
    "ray": "a cluster of Ray's",
    "tar": "a bundle",
}
ENTRYPOINTS = ("./entrypoint.sh", "entrypoint.sh", "mlperf-llama")
ASSIGNMENT = re.compile(r"[A-Za-z_]+=")
OURS = r"make [a-z]|\./\w+\.sh|entrypoint\.sh [a-z]|mlperf-llama [a-z]|(?:docker|scripts)/\S+\.sh|python -m"
INLINE = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{OURS}|(?:{'|'.join(NEEDS)}) [a-z])")
SHOWN = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def blocks(text: str) -> Iterator[str]:
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        if language == "bash":
            yield from block.replace("\\\n", " ").splitlines()
        elif language == "text":
            yield from (line.strip()[2:] for line in block.splitlines() if line.strip().startswith("$ "))


def shown(text: str) -> list[str]:
    """The commands of a page."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = (words for words in re.findall(r"`([^`\n]+)`", prose) if INLINE.match(words))
    return [line for line in (*blocks(text), *inline) if line.strip() and not line.lstrip().startswith("#")]


def programs(line: str) -> Iterator[list[str]]:
    """The words of each program of a line; `name=$(...)` is what stands in it."""
    inner = re.fullmatch(r"\w+=\$\((.*)\)", line.strip())
    words = shlex.split(inner[1] if inner else re.sub(r"\$\([^)]*\)", "X", line), comments=True)
    while "&&" in words or "|" in words:
        cut = next(n for n, word in enumerate(words) if word in ("&&", "|"))
        yield words[:cut]
        words = words[cut + 1 :]
    yield words


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def fault_of_make(words: list[str]) -> str:
    given = {name: value for name, _, value in (w.partition("=") for w in words) if value or "=" in name}
    named = [word for word in words if "=" not in word]
    if unknown := set(named) - targets():
        return f"no such target: {', '.join(sorted(unknown))}"
    if strange := given.keys() - BY_NAME.keys() - OTHER_VARIABLES:
        return f"no such variable: {', '.join(sorted(strange))}"
    try:
        config.load({k: v for k, v in given.items() if k in BY_NAME and "..." not in v}, {})
    except UsageError as error:
        return str(error)
    return ""


def fault_of_verb(words: list[str]) -> str:
    try:
        given = parser.flags(parser.build().parse_args(["run" if word == "VERB" else word for word in words]))
        config.load(given, {})
    except SystemExit as ended:
        return f"flags that the verb does not take: {words}" if ended.code else ""
    except UsageError as error:
        return str(error)
    return ""


def fault(words: list[str]) -> str:
    """What is wrong with a program's words; empty: nothing."""
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words:
        return ""
    program, rest = words[0], words[1:]
    if program == "make":
        return fault_of_make(rest)
    if program in ENTRYPOINTS:
        return fault_of_verb(rest)
    if program == "python" and rest[:1] == ["-m"]:
        return "" if importlib.util.find_spec(rest[1]) else f"no such module: {rest[1]}"
    if program == "python" and rest[0].endswith(".py"):
        program = rest[0]
    if "/" in program:
        return "" if (ROOT / program).is_file() else f"no such file: {program}"
    return "" if program in NEEDS else f"{program} is neither ours nor in NEEDS"


def of(page: Path) -> list[tuple[str, list[str]]]:
    """The lines of a page that hold commands, each with the words of one program of it."""
    return [(line, words) for line in shown(page.read_text()) for words in programs(line)]


@pytest.mark.parametrize("page", SHOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_a_page_is_one_that_works(page: Path) -> None:
    faults = [f"{line}: {message}" for line, words in of(page) if (message := fault(words))]
    assert not faults, "\n".join(faults)


def test_scripts_that_pages_show_can_be_started() -> None:
    for page in SHOWN:
        for script in re.findall(r"(?<![\w/])\./(\w+\.sh)", page.read_text()):
            assert os.access(ROOT / script, os.X_OK), f"{page}: {script}"


def test_what_is_needed_is_still_shown_somewhere() -> None:
    assert NEEDS.keys() <= {words[0] for page in SHOWN for _, words in of(page) if words}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("make rnu", "no such target: rnu"),
        ("make run SAMPLE=3", "no such variable: SAMPLE"),
        ("make run SAMPLES=many", "--samples: expected"),
        ("./entrypoint.sh plan --nead 500", "flags that the verb does not take"),
        ("./entrypoint.sh plan --scenario Sever", "--scenario: expected"),
        ("folder=$(make rnu SAMPLES=8)", "no such target: rnu"),
        ("make run && rye start", "rye is neither ours nor in NEEDS"),
        ("scripts/nothing.sh", "no such file"),
        ("python -m mlperf_llama.nothing", "no such module"),
    ],
)
def test_a_wrong_command_is_seen(line: str, message: str) -> None:
    assert any(message in fault(words) for words in programs(line))


def test_commands_are_taken_from_blocks_sessions_and_inline_code() -> None:
    page = "`make run`, `make` and `results/`\n```bash\nray start \\\n  --head\n# a remark\n```\n"
    session = "```text\n$ jq .a\nout\n```\n"
    assert [line.split() for line in shown(page + session)] == [
        ["ray", "start", "--head"],
        ["jq", ".a"],
        ["make", "run"],
    ]
