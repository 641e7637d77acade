"""What pages show as the output of `plan` is what it prints for that machine.

A block of a page is made again by: python python/tests/unit/test_docs_output.py (it writes the page).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.bench import foretell, planner
from mlperf_llama.records.schema import Gpu
from mlperf_llama.verdict.check import below

PAGE = Path(__file__).resolve().parents[3] / "docs/walkthrough.md"
BLOCK = re.compile(r"( *)<!-- plan: (\w+) -->\n *```text\n(.*?)\n *```", re.DOTALL)
NAMES = {"A30": ("NVIDIA A30", 23.6, "8.0", 1), "H100": ("NVIDIA H100 80GB HBM3", 79.6, "9.0", 8)}
CACHE = {"MLPERF_CACHE_DIR": "/home/you/.cache/mlperf-llama"}
ENV = {"HF_TOKEN": "hf_" + "a" * 34, "HF_HOME": "/nonexistent", **CACHE}


def gpus(name: str) -> list[Gpu]:
    model, memory, capability, count = NAMES[name]
    return [
        Gpu(
            name=model,
            memory_gib=memory,
            compute_capability=capability,
            index=index,
            uuid=str(index),
            source="nvml",
        )
        for index in range(count)
    ]


def expected(name: str, command: str) -> str:
    """The command and what it prints on a machine with these GPUs and a token."""
    flags = dict(word.split("=", 1) for word in command.split() if "=" in word)
    settings = config.load(flags, CACHE)
    lines = foretell.render(foretell.lines(settings, gpus(name), ENV))
    return f"{command}\n{planner.table(settings, gpus(name))}\n\n{lines}"


def shown() -> list[tuple[str, str, str]]:
    """Indent, GPU and text of each block of the page."""
    return [
        (indent, name, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, name, text in BLOCK.findall(PAGE.read_text())
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_plan_prints(name: str) -> None:
    texts = [text for _, gpu, text in shown() if gpu == name]
    assert texts
    for text in texts:
        assert text == expected(name, text.splitlines()[0])


def test_the_check_that_is_explained_reads_as_the_verdict_writes_it() -> None:
    failed = below("Server.ttft_p99", 2520.3, 2000, " ms", "")
    assert f"{failed.name}: {failed.detail}. lower TARGET_QPS" in (PAGE.parent / "verdict.md").read_text()


def write() -> None:
    def made(match: re.Match[str]) -> str:
        indent, name, text = match.groups()
        lines = ["```text", *expected(name, text.splitlines()[0].strip()).splitlines(), "```"]
        return f"{indent}<!-- plan: {name} -->\n" + "\n".join(f"{indent}{line}".rstrip() for line in lines)

    PAGE.write_text(BLOCK.sub(made, PAGE.read_text()))


if __name__ == "__main__":
    write()
