"""README, docs and the repository agree: links, the tree, the words of commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlperf_llama.cli import table
from mlperf_llama.settings import BY_NAME, SHELL_NAMES

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "results/README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKE = re.compile(r"\bmake ([a-z-]+)((?: [A-Z_]+=\S+)*)")

OTHER_VARIABLES = {"RUN_DIR", "A", "B", "NEED", "PAGE", "SUBMISSION", "BUNDLE", "CHECK", "KEEP", *SHELL_NAMES}


@pytest.fixture(params=PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def code(text: str) -> str:
    """What stands in backticks or fences: prose may say `make` as a word."""
    return "\n".join(re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL))


def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_make_command_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target, variables in MAKE.findall(code(page.read_text())):
        assert target in targets, f"{page}: make {target}"
        for name in re.findall(r"([A-Z_]+)=", variables):
            assert name in BY_NAME or name in OTHER_VARIABLES, f"{page}: {name}"


def test_every_verb_exists(page: Path) -> None:
    for verb in re.findall(r"entrypoint\.sh ([a-z][a-z-]*)", code(page.read_text())):
        assert verb in table.BY_NAME, f"{page}: {verb}"


def test_the_tree_names_everything_at_the_top() -> None:
    tree = re.search(r"## What is where\n\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree
    named = [line.split()[0].rstrip("/") for line in tree[1].splitlines()]
    for name in named:
        assert list(ROOT.glob(name)), name
    there = {".ci", ".env.example"} | {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    for name in there - {"README.md", "__pycache__", "build"}:
        assert any(Path(name).match(pattern.split("/")[0]) for pattern in named), f"{name} is not in the tree"


def test_no_page_repeats_a_default() -> None:
    """Defaults stand in .env.example alone; the README names none."""
    assert not re.search(r"\bdefaults?\b(?!, unit)", (ROOT / "README.md").read_text(), re.IGNORECASE)


def test_the_pages_that_readme_lists_are_all_pages() -> None:
    listed = set(re.findall(r"^- \[docs/([\w.-]+)\]", (ROOT / "README.md").read_text(), re.MULTILINE))
    linked = set(re.findall(r"\]\((?:docs/)?([\w-]+\.md)", "".join(page.read_text() for page in PAGES)))
    assert {p.name for p in (ROOT / "docs").glob("*.md")} <= listed | linked


def test_the_checks_that_the_verdicts_page_names_exist() -> None:
    """Each is looked for in the verdict's own tests."""
    tests = "".join(p.read_text() for p in sorted((ROOT / "python/tests/unit").glob("test_verdict*.py")))
    page = (ROOT / "docs/verdict.md").read_text()
    names = {
        words.removeprefix("NAME.") for words in re.findall(r"`((?:NAME\.)?[a-z0-9_.]*_?[a-z0-9_]+)`", page)
    }
    named = {name for name in names if not name.endswith((".json", ".txt", ".html"))} - {"jq", "warn"}
    assert {"seal", "whole_passes", "accuracy.rouge1", "ttft_p99"} <= named
    assert not {name for name in named if name not in tests}


def test_every_anchor_leads_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, target


def test_a_rate_is_written_with_per(page: Path) -> None:
    """Not as in "tokens a step", over which a reader stumbles."""
    nouns = r"(?:tokens|queries|samples|answers|objects?|scales?|bytes|records?|us|ms)"
    units = r"(?:second|step|token|line|sample|answer|tensor|matrix|query|member|machine)"
    assert not re.findall(rf"\b{nouns} an? {units}\b.*", page.read_text())
