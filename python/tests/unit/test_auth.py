"""`make auth` against stand-ins of the hub, MLCommons' store behind Cloudflare Access, and cloudflared."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import standin_servers
from standin_servers import CF_ID, CF_SECRET, Fault, Repo, StandIn

from mlperf_llama import auth, config, rules
from mlperf_llama.auth import Questions, browser, keep, ways
from mlperf_llama.errors import EXIT_MISSING, EXIT_OK, UsageError

GOOD, NO_GATE = "hf_standin-good", "hf_standin-no-gate"
CF = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET": CF_SECRET}


def web_token(seconds: float) -> str:
    """A JSON Web Token that ends so many seconds from now."""
    claims = (
        base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode().rstrip("=")
    )
    return f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2lnbmF0dXJlLXN0YW5kLWlu"


LOG_IN, EXPIRED = web_token(3600), web_token(-60)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with standin_servers.serve() as stand_in:
        files = {"config.json": b"{}"}
        stand_in.add_repo(Repo("models", rules.MODEL_ID, rules.MODEL_REVISION, files, gated=True))
        stand_in.tokens = {GOOD: (rules.MODEL_ID,), NO_GATE: ()}
        stand_in.add_r2("llama3-1-8b-instruct", files, protected=True)
        stand_in.log_ins = {LOG_IN, EXPIRED}
        yield stand_in


@pytest.fixture
def env(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for names in ways.SECRETS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
            # Whatever a test puts there is taken out again.
            monkeypatch.setenv(name, "")
    return {
        "HF_ENDPOINT": server.url,
        "MLPERF_R2_MODEL_URL": f"{server.url}/metadata",
        "MLPERF_ENV_FILE": str(tmp_path / ".env"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PATH": "/usr/bin:/bin",
    }


def run(
    env: Mapping[str, str],
    check_only: bool = False,
    keep_where: str | None = None,
    questions: Questions | None = None,
) -> tuple[int, str]:
    out = io.StringIO()
    code = auth.main(config.load({}, env), env, check_only, keep_where, questions, out)
    return code, out.getvalue()


def answering(*answers: str) -> Questions:
    """A person who gives these answers in order, then passes over."""
    left = list(answers)

    def answer(_: str) -> str:
        return left.pop(0) if left else ""

    return Questions(answer, answer)


@pytest.mark.parametrize(
    ("name", "tokens", "works", "says"),
    [
        (ways.HUB, {}, False, "HF_TOKEN is not set"),
        (ways.HUB, {"HF_TOKEN": "hf_wrong-or-old"}, False, "HF_TOKEN is wrong or expired"),
        (ways.HUB, {"HF_TOKEN": NO_GATE}, False, "HF_TOKEN has no access yet"),
        (ways.HUB, {"HF_TOKEN": GOOD}, True, "is open to HF_TOKEN of tester"),
        (ways.HUB, {"HF_TOKEN": "“quoted-token”"}, False, "has characters no token has"),
        (ways.SERVICE, {}, False, "CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET are not set"),
        (ways.SERVICE, {"CF_ACCESS_CLIENT_ID": CF_ID}, False, "CF_ACCESS_CLIENT_SECRET is not set"),
        (ways.SERVICE, {**CF, "CF_ACCESS_CLIENT_SECRET": "another-secret"}, False, "wrong or expired"),
        (ways.SERVICE, CF, True, "the model is open to the service token"),
        (ways.BROWSER, {}, False, "cloudflared is not installed"),
        (ways.BROWSER, {"CF_ACCESS_TOKEN": EXPIRED}, False, "CF_ACCESS_TOKEN expired at"),
        (ways.BROWSER, {"CF_ACCESS_TOKEN": web_token(3600)[:-3]}, False, "CF_ACCESS_TOKEN is wrong"),
        (ways.BROWSER, {"CF_ACCESS_TOKEN": LOG_IN}, True, "open to the log-in, until "),
    ],
)
def test_every_way_is_asked_at_its_host(
    env: dict[str, str], name: str, tokens: dict[str, str], works: bool, says: str
) -> None:
    env |= tokens
    code, text = run(env, check_only=True)
    assert code == (EXIT_OK if works else EXIT_MISSING)
    [line] = [line for line in text.splitlines() if f"  {name}  " in line]
    assert says in line and line.startswith("ok" if works else "no")
    assert len(text.splitlines()) == 4
    assert not [value for value in tokens.values() if value in text]


def test_a_host_that_does_not_answer_is_named(env: dict[str, str]) -> None:
    env |= {"HF_TOKEN": GOOD, "HF_ENDPOINT": "http://127.0.0.1:9"}
    code, text = run(env, check_only=True)
    assert code == EXIT_MISSING and "http://127.0.0.1:9/api/whoami-v2: no connection" in text


def test_a_hub_out_of_order_is_no_wrong_token(env: dict[str, str], server: StandIn) -> None:
    server.fail("/api/whoami-v2", Fault(500))
    try:
        text = run(env | {"HF_TOKEN": GOOD}, check_only=True)[1]
    finally:
        server.heal()
    assert "HTTP 500" in text and "wrong or expired" not in text


def test_without_a_way_each_is_said_in_order(env: dict[str, str]) -> None:
    code, text = run(env)
    assert code == EXIT_MISSING
    hub, service, web = (text.index(f"\n{name}, in this order:\n  1. Open https://") for name in ways.STEPS)
    assert hub < service < web
    assert rules.MODEL_ID in text[hub:service]
    assert not (Path(env["MLPERF_ENV_FILE"])).exists()


@pytest.mark.parametrize("where", [keep.ENV, keep.FILES])
def test_a_token_that_is_pasted_is_checked_and_kept(env: dict[str, str], where: str) -> None:
    path = Path(env["MLPERF_ENV_FILE"])
    path.write_text("MLPERF_SAMPLES=8\nHF_TOKEN=old\nHF_TOKEN_FILE=/old\n")
    path.chmod(0o644)
    env["HF_TOKEN"] = "hf_wrong-or-old"
    code, text = run(env, questions=answering("hf_another-wrong", f"  {GOOD}\n", where))
    assert code == EXIT_OK
    assert GOOD not in text and "hf_another-wrong" not in text and "wrong or expired" in text
    lines = path.read_text().splitlines()
    kept = path if where == keep.ENV else Path(env["XDG_CONFIG_HOME"]) / "mlperf-llama/HF_TOKEN"
    line = f"HF_TOKEN={GOOD}" if where == keep.ENV else f"HF_TOKEN_FILE={kept}"
    assert lines == ["MLPERF_SAMPLES=8", line]
    assert f"kept in {kept}" in text
    assert (path.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o600, 0o600)
    read = config.read_env_file(path)
    assert config.secret("HF_TOKEN", read) == GOOD


def test_nothing_is_kept_that_does_not_work_or_nobody_wants(env: dict[str, str]) -> None:
    path = Path(env["MLPERF_ENV_FILE"])
    run(env | {"HF_TOKEN": NO_GATE}, keep_where=keep.ENV)
    run(env | {"HF_TOKEN": GOOD})
    run(env, questions=answering(GOOD, ""))
    run(env | {"HF_TOKEN": GOOD}, check_only=True, keep_where=keep.ENV)
    assert not path.exists()
    run(env | {**CF, "HF_TOKEN": NO_GATE}, keep_where=keep.ENV)
    assert sorted(line.split("=")[0] for line in path.read_text().splitlines()) == sorted(CF)


def test_an_env_file_that_is_none_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="expected a file to keep tokens in"):
        run(env | {"HF_TOKEN": GOOD, "MLPERF_ENV_FILE": os.devnull}, keep_where=keep.ENV)


def cloudflared(folder: Path, script: str) -> str:
    """A stand-in of the command, first on PATH."""
    path = folder / "bin/cloudflared"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{path.parent}:/usr/bin:/bin"


def test_the_log_in_in_a_browser(env: dict[str, str], tmp_path: Path) -> None:
    script = f"""
if [ "$2" = token ]; then
    [ "$3" = "-app=$MLPERF_R2_MODEL_URL/llama3-1-8b-instruct.uri" ] && echo {LOG_IN}
else
    echo "Open https://login.example/cdn-cgi/access/cli"
    echo "Successfully fetched your token: {LOG_IN}"
fi
"""
    env["PATH"] = cloudflared(tmp_path, script)
    code, text = run(env, questions=answering("", "", "y", keep.ENV))
    assert code == EXIT_OK
    assert "Open https://login.example/cdn-cgi/access/cli" in text and LOG_IN not in text
    assert config.read_env_file(Path(env["MLPERF_ENV_FILE"])) == {"CF_ACCESS_TOKEN": LOG_IN}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("sleep 60", "expected it to end within 0.3 s"),
        ("exit 3", "cloudflared access login: ended with code 3"),
        ("echo nothing", "expected a token after the log-in, found none"),
    ],
)
def test_a_log_in_that_fails_says_why(env: dict[str, str], tmp_path: Path, script: str, says: str) -> None:
    env["PATH"] = cloudflared(tmp_path, script)
    began = time.monotonic()
    with pytest.raises(Exception, match=says):
        browser.log_in("https://store.example/x.uri", env, lambda _: None, login_s=0.3)
    assert time.monotonic() - began < 5


def test_a_download_takes_the_log_in_where_there_is_no_service_token(env: dict[str, str]) -> None:
    from mlperf_llama.sources.fetch import r2

    assert r2.token_headers(env | {"CF_ACCESS_TOKEN": LOG_IN}) == {"cf-access-token": LOG_IN}
    assert "cf-access-token" not in r2.token_headers(env | CF | {"CF_ACCESS_TOKEN": LOG_IN})
