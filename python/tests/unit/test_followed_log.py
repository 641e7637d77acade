"""VERBOSITY=debug: what comes into run.log is on the terminal too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlperf_llama.credentials import redaction
from mlperf_llama.terminal import console


@pytest.mark.parametrize("follow", [True, False])
def test_the_log_is_on_the_terminal_where_it_is_asked_for(
    follow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, before = tmp_path / "terminal", os.dup(2)
    log = tmp_path / "run.log"
    log.write_text("of an earlier start\n")
    handle = os.open(seen, os.O_WRONLY | os.O_CREAT)
    monkeypatch.setitem(redaction._state, "filter", redaction._Filter({"hf_abcdefgh123"}))
    try:
        os.dup2(handle, 2)
        with console.captured(log, follow=follow) as terminal:
            os.write(1, b"from a library\nwith hf_abcdefgh123 and \x1b[31mred")
            terminal.write("the progress\n")
            terminal.flush()
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(handle)
    shown = seen.read_text()
    assert "the progress\n" in shown
    assert ("from a library\n" in shown) == follow
    assert ("with *** and \\x1b[31mred" in shown) == follow
    assert "earlier start" not in shown
    assert "hf_abcdefgh123" not in shown + log.read_text()
