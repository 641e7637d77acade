"""The filter on every way out: streams, records, events, reports, run.log; and control characters."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_samples as samples

from mlperf_llama import __main__ as command
from mlperf_llama import report
from mlperf_llama.bench.finalize import finalize_run
from mlperf_llama.cli import parser
from mlperf_llama.credentials import redaction
from mlperf_llama.doctor import Finding, render
from mlperf_llama.records.events import Events
from mlperf_llama.records.files import write_text
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Attempt, Event, Provenance, Provided
from mlperf_llama.report import blocks, html, markdown, plot
from mlperf_llama.terminal import console
from mlperf_llama.terminal.style import Style, plain

TOKEN = "hf_SECRETxyz"
ENV = {"HF_TOKEN": f"{TOKEN}\n"}
DANGEROUS = "a\x1b[2J\x1b]0;title\x07b\x9b31m\x7f\u202ec\u2028d\r\x00"
SHOWN = r"a\x1b[2J\x1b]0;title\x07b\x9b31m\x7f\u202ec\u2028d\r\x00"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(redaction._state, "filter", redaction._Filter(set()))
    yield


def hidden(text: str, env: dict[str, str]) -> str:
    redaction.install(env)
    return redaction.text(text)


@pytest.mark.parametrize(
    "raw", [TOKEN, f"{TOKEN}\r\n", f"\ufeff{TOKEN}", f"\u201c{TOKEN}\u201d", f'"{TOKEN}"']
)
@pytest.mark.parametrize(
    "shape", ["{}", "Bearer {}", "x{}y", "b'Bearer {}\\n'", "\\n{}", "hf\\_SECRETxyz", "?token={}&a=1"]
)
def test_a_token_is_hidden_however_it_was_set_and_wherever_it_stands(raw: str, shape: str) -> None:
    shown = hidden(shape.format(TOKEN), {"HF_TOKEN": raw})
    assert "SECRET" not in shown and "***" in shown


@pytest.mark.parametrize("escape", [repr, json.dumps, ascii, markdown.escape, blocks.escape])
@pytest.mark.parametrize("raw", [f"{TOKEN}\n", f"\u201c{TOKEN}\u201d", f"{TOKEN}\nother-SECRET"])
def test_the_whole_value_is_hidden_in_every_escaped_form(escape: object, raw: str) -> None:
    assert callable(escape)
    assert "SECRET" not in hidden(f"Invalid header value {escape(raw)}", {"HF_TOKEN": raw})


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET", "HF_TOKE", "HUGGING_FACE_HUB_TOKEN"],
)
def test_every_secret_and_what_is_misnamed_is_known(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{TOKEN}\r\n", encoding="utf-8-sig")
    assert hidden(f"<{TOKEN}>", {name: TOKEN}) == "<***>"
    assert hidden(f"<{TOKEN}>", {f"{name}_FILE": str(file)}) == "<***>"


def test_a_pipe_is_left_to_its_one_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    redaction.install({"HF_TOKEN_FILE": str(pipe)})
    redaction.install({"HF_TOKEN_FILE": "nul\0byte"})


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "OPENAI_API_KEY", "VLLM_API_KEY"]
)
def test_secrets_of_other_programs_are_known(name: str) -> None:
    assert hidden("<abcd1234efgh>", {name: "abcd1234efgh"}) == "<***>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_TOKEN_PATH", "results/2026"),
        ("MLPERF_MAX_NUM_BATCHED_TOKENS", "16384"),
        ("GIT_PASSWORD", "results"),
        ("APP_SECRET", "/run/secrets/2026"),
        ("CF_ACCESS_CLIENT_SECRET", "x"),
        ("HF_TOKEN", "ult"),
        ("https_proxy", "http://user:results@host:80"),
    ],
)
def test_ordinary_words_stay(name: str, value: str) -> None:
    text = "results/2026 xylophone /run/secrets/2026 false 16384 default"
    assert hidden(text, {name: value}) == text


def test_a_short_token_is_hidden_as_a_word() -> None:
    assert hidden("hf_x: Bearer hf_x\n, hf_xy", {"HF_TOKEN": "hf_x"}) == "***: Bearer ***\n, hf_xy"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:p4ss@host/x", "https://***@host/x"),
        ("https://token@host", "https://***@host"),
        ("to http://a:b@h:80/x, https://c:d@i", "to http://***@h:80/x, https://***@i"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("socks5h://me:p4ss@host", "socks5h://***@host"),
        ("git+https://me:p4ss@host", "git+https://***@host"),
        ("https://***@host", "https://***@host"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("https://host/a@b?c=d@e", "https://host/a@b?c=d@e"),
        ("mlcommons@mlperf-automations", "mlcommons@mlperf-automations"),
    ],
)
def test_user_and_password_of_any_address_are_hidden(text: str, shown: str) -> None:
    assert redaction.text(text) == shown


def test_a_password_is_hidden_outside_of_its_address_too() -> None:
    env = {"MLPERF_R2_BASE_URL": "https://me:p4ssw%40rd7@host/x"}
    basic = base64.b64encode(b"me:p4ssw@rd7").decode()
    assert hidden(f"p4ssw%40rd7 p4ssw@rd7 Basic {basic}", env) == "*** *** Basic ***"


def test_records_events_and_texts_hold_no_secret(tmp_path: Path) -> None:
    redaction.install({"HF_TOKEN": f"\u201c{TOKEN}\u201d", "CF_ACCESS_CLIENT_SECRET": 'quo"ted\\SECRET'})
    run, seen = RunFolder(tmp_path), list[Event]()
    reason = f'\u201c{TOKEN}\u201d and quo"ted\\SECRET at https://me:SECRET@host'
    run.write(Provenance(model=Provided(attempts=(Attempt("huggingface", "failed", reason, 1.0),))))
    events = Events(run, seen.append)
    events.emit("end", status="failed", message=reason)
    events.close()
    write_text(tmp_path / "note.txt", reason)
    assert seen[0]["message"] == "\u201c***\u201d and *** at https://***@host"
    for path in tmp_path.iterdir():
        assert "SECRET" not in path.read_text(encoding="utf-8"), path
    attempts = (run.read(Provenance).model or Provided()).attempts
    assert attempts[0].reason == seen[0]["message"]


def test_what_a_saved_folder_still_holds_is_not_reported(tmp_path: Path) -> None:
    run = samples.standin(tmp_path)
    path = run.file("provenance.json")
    saved = json.loads(path.read_text())
    saved["model"]["attempts"][0]["reason"] = f"Bearer {TOKEN} at https://me:SECRET@host"
    path.write_text(json.dumps(saved))
    redaction.install(ENV)
    report.write(run)
    for name in ("report.md", "report.html"):
        text = run.file(name).read_text()
        assert "SECRET" not in text and "https://" in text


@pytest.mark.parametrize("size", [0, redaction.BLOCK - len(TOKEN) // 2, 3 * redaction.BLOCK])
def test_run_log_is_overwritten_in_place(tmp_path: Path, size: int) -> None:
    redaction.install(ENV)
    log = tmp_path / "run.log"
    before = b"." * size + f"\nBearer {TOKEN}\\n\nhttps://me:SECRET@host/x\nthe end\n".encode() + b"." * size
    log.write_bytes(before)
    inode = log.stat().st_ino
    redaction.scrub(log)
    after = log.read_bytes()
    assert (len(after), log.stat().st_ino) == (len(before), inode)
    assert after == before.replace(TOKEN.encode(), b"*" * 12).replace(b"me:SECRET", b"*" * 9)
    redaction.scrub(log)
    assert log.read_bytes() == after


def test_a_log_that_is_not_there_or_not_ours_ends_nothing(tmp_path: Path) -> None:
    redaction.scrub(tmp_path / "none")
    redaction.scrub(tmp_path)


def test_what_libraries_print_into_descriptors_is_hidden_at_the_end(tmp_path: Path) -> None:
    redaction.install(ENV)
    log = tmp_path / "run.log"
    log.write_text(f"left by a killed run: {TOKEN}\n")
    with pytest.raises(RuntimeError), console.captured(log):
        assert TOKEN not in log.read_text()
        os.write(1, f"out {TOKEN}\n".encode())
        os.write(2, f"err {TOKEN}\n".encode())
        raise RuntimeError
    assert log.read_text() == f"left by a killed run: {'*' * 12}\nout {'*' * 12}\nerr {'*' * 12}\n"


def test_a_killed_runs_log_is_mended_when_its_folder_is_closed(tmp_path: Path) -> None:
    run = samples.standin(tmp_path)
    run.file("run.log").write_text(f"Bearer {TOKEN}\n")
    redaction.install(ENV)
    finalize_run(run, "interrupted")
    assert TOKEN not in run.file("run.log").read_text()


def test_streams_hide_and_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with redaction.streams():
        redaction.install(ENV)
        print(f"out {TOKEN}", flush=True)
        sys.stderr.writelines([f"err {TOKEN}\n"])
        assert sys.stderr.isatty() is False
    assert sys.stdout is out and sys.stderr is err
    assert (out.getvalue(), err.getvalue()) == ("out ***\n", "err ***\n")
    assert redaction.text(TOKEN) == TOKEN


def test_a_traceback_and_an_error_line_hide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n")
    monkeypatch.setattr(command.signals, "install", lambda: None)
    monkeypatch.setattr(command, "set_up_logging", lambda debug: None)

    def breaks(*_: object) -> None:
        raise ValueError(f"Invalid header value b'Bearer {TOKEN}\\n'")

    monkeypatch.setattr(command.config, "load", breaks)
    assert command.main(["plan"]) == 1
    err = capsys.readouterr().err
    assert "Invalid header value b'Bearer ***" in err and TOKEN not in err


def test_control_characters_are_shown() -> None:
    assert redaction.visible(DANGEROUS) == SHOWN
    for text in ("", "a\tb\nc", "Ü €\u202f✅ ⚠️ 日本"):
        assert redaction.visible(text) == text


def test_no_report_or_terminal_text_passes_a_control_character_on() -> None:
    banner = blocks.Banner(DANGEROUS, (DANGEROUS,), "bad")
    table = blocks.Table((DANGEROUS,), ((DANGEROUS,), (f"`{DANGEROUS}`",)), "l", DANGEROUS, DANGEROUS)
    folded = blocks.Table((DANGEROUS,), ((DANGEROUS,),), "l", DANGEROUS, folded=True)
    chart = blocks.Chart(
        DANGEROUS, plot.plot([plot.Series("", [(0, 1), (1, 2)])], DANGEROUS, DANGEROUS), DANGEROUS
    )
    content = (blocks.Text(DANGEROUS), blocks.Items((DANGEROUS,)), table, folded, chart)
    section = blocks.Section(DANGEROUS, content)
    document = blocks.Document(DANGEROUS, DANGEROUS, banner, DANGEROUS, (section,))
    finding = Finding(DANGEROUS, "ok", DANGEROUS, DANGEROUS)
    texts = [markdown.render(document), html.render(document), plain(DANGEROUS)]
    texts.append(render([finding], Style(), 400))
    for text in texts:
        left = {c for c in text if not c.isprintable()} - {"\n"}
        assert not left, left
        assert "x1b" in text and "u202e" in text


def test_error_lines_and_logs_pass_no_control_character_on(capsys: pytest.CaptureFixture[str]) -> None:
    command._say("error", DANGEROUS)
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "said=%s", (DANGEROUS,), None)
    line = command._Formatter("%(message)s").format(record)
    with pytest.raises(SystemExit):
        parser.build().parse_args(["doctor", f"--no-{DANGEROUS}"])
    for text in (capsys.readouterr().err, line):
        assert SHOWN in text and not {c for c in text if not c.isprintable()} - {"\n"}
