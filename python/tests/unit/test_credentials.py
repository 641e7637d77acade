"""Secrets as they are read: trimmed, checked, named right, and never in a message."""

from __future__ import annotations

import codecs
import os
import subprocess
from pathlib import Path

import pytest

from mlperf_llama import config, credentials, settings
from mlperf_llama.config import Config
from mlperf_llama.doctor import FAIL, WARN, software
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.settings import BY_NAME, SECRETS
from mlperf_llama.sources.fetch import http, mlcr
from mlperf_llama.sources.model import huggingface

TOKEN = "hf_SECRETxyz0123456789"
ADDRESSES = ("R2_BASE_URL", "R2_MODEL_URL", "MLC_REPO")
ENDINGS = ["\n", "\r\n", "\r", " \t", "\u00a0", "\ufeff", "\u200b\n", "\v\f", "\n\ufeff\n"]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("around", ENDINGS)
def test_what_surrounds_a_secret_is_cut_off(tmp_path: Path, name: str, around: str) -> None:
    assert config.secret(name, {name: around + TOKEN + around}) == TOKEN
    file = tmp_path / "token"
    file.write_text(around + TOKEN + around, encoding="utf-8")
    assert config.secret(name, {f"{name}_FILE": str(file)}) == TOKEN
    # Nothing but white space is no secret: the file counts.
    assert config.secret(name, {name: around, f"{name}_FILE": str(file)}) == TOKEN
    assert config.secret(name, {name: around}) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(f"{TOKEN}\r\n".encode(encoding))
    assert config.secret("HF_TOKEN", {"HF_TOKEN_FILE": str(file)}) == TOKEN


FAULTS = [
    (f"\u201c{TOKEN}\u201d", "a quotation mark at position 1 of 24"),
    (f"\u201e{TOKEN}", "a quotation mark at position 1 of 23"),
    (f'"{TOKEN}"', "a quotation mark at position 1 of 24"),
    (f"'{TOKEN}'", "a quotation mark at position 1 of 24"),
    (f"{TOKEN} # mine", "white space at position 23 of 29"),
    (f"{TOKEN}\nsecond", "white space at position 23 of 29"),
    (f"{TOKEN}\x1b[2J", "a control character at position 23 of 26"),
    (f"{TOKEN}\ufeff{TOKEN}", "a control character at position 23 of 45"),
    (f"{TOKEN}\u0435", "a character outside ASCII at position 23 of 23"),
    (f"{TOKEN}\udcff", "a character outside ASCII at position 23 of 23"),
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(("value", "fault"), FAULTS)
def test_characters_no_token_has_are_named_and_not_shown(name: str, value: str, fault: str) -> None:
    with pytest.raises(MissingError) as caught:
        config.secret(name, {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} has characters no token has: {fault}; ")
    assert "SECRET" not in message.removeprefix(name) and "\n" not in message
    assert message.isascii() and message.isprintable()


@pytest.mark.parametrize("data", [f"\u201c{TOKEN}\u201d".encode(), f"{TOKEN}\xff".encode("latin-1")])
def test_a_file_with_such_characters_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(data)
    with pytest.raises(MissingError, match="HF_TOKEN has characters no token has in the file") as caught:
        config.secret("HF_TOKEN", {"HF_TOKEN_FILE": str(file)})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("path", ["none/there", ".", "nul\0byte"])
def test_a_file_that_cannot_be_read_is_a_wrong_setting(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="HF_TOKEN_FILE: expected a readable file"):
        config.secret("HF_TOKEN", {"HF_TOKEN_FILE": str(tmp_path / path)})


@pytest.mark.parametrize(
    "line",
    [
        f"export HF_TOKEN={TOKEN}",
        f"HF_TOKEN {TOKEN}",
        f"HF_TOKEN: {TOKEN}",
        f"={TOKEN}",
        TOKEN,
        f"HF-TOKEN={TOKEN}",
        f"{TOKEN}.x=1",
    ],
)
def test_a_malformed_line_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"# fine\n{line}\n")
    with pytest.raises(UsageError) as caught:
        config.read_env_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: expected NAME=value, found ")
    assert "SECRET" not in message


def test_an_env_file_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(codecs.BOM_UTF8 + f"HF_TOKEN={TOKEN}\r\nMLPERF_SEED=3\r\n".encode())
    assert config.read_env_file(path) == {"HF_TOKEN": TOKEN, "MLPERF_SEED": "3"}


MISNAMED = {
    **dict.fromkeys(
        ["HF_TOKE", "HF_TOKENS", "HFTOKEN", "hf_token", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"],
        "HF_TOKEN",
    ),
    **dict.fromkeys(["HUGGINGFACEHUB_API_TOKEN", "HF_API_KEY", "HUGGINGFACE_API_KEY"], "HF_TOKEN"),
    "HF_TOKE_FILE": "HF_TOKEN_FILE",
    **dict.fromkeys(["CF_ACCESS_ID", "CF_CLIENT_ID", "CF_ACCESS_CLIENTID"], "CF_ACCESS_CLIENT_ID"),
    **dict.fromkeys(
        ["CF_ACCESS_SECRET", "CF_ACCESS_CLIENT_SECRE", "CF_ACCESS_KEY"], "CF_ACCESS_CLIENT_SECRET"
    ),
    "CF_ACCESS_CLIENT_SECRET_FIL": "CF_ACCESS_CLIENT_SECRET_FILE",
}


@pytest.mark.parametrize(("given", "right"), MISNAMED.items())
def test_a_misspelt_secret_is_named_with_the_right_one(given: str, right: str) -> None:
    assert credentials.misnamed_secrets({given: TOKEN}) == {given: right}
    assert credentials.misnamed_secrets({given: ""}) == {}
    assert credentials.misnamed_secrets({given: TOKEN, right: "x"}) == {}
    hint = credentials.misnamed(right.removesuffix("_FILE"), {given: TOKEN})
    assert given in hint and TOKEN not in hint


@pytest.mark.parametrize(
    "name",
    [
        *("HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_DATASETS_CACHE"),
        *(
            "HF_HUB_DISABLE_IMPLICIT_TOKEN",
            "HF_HUB_DOWNLOAD_TIMEOUT",
            "GH_TOKEN",
            "GITHUB_TOKEN",
            "CF_ZONE_ID",
        ),
        *credentials.SECRET_NAMES,
    ],
)
def test_a_name_of_another_program_is_no_misspelling(name: str) -> None:
    assert credentials.misnamed_secrets({name: TOKEN}) == {}


def test_the_reason_of_a_source_names_the_misspelling(tmp_path: Path) -> None:
    env = {"HF_TOKE": TOKEN, "HF_HOME": str(tmp_path)}
    with pytest.raises(MissingError, match=r"HF_TOKEN is not set \(HF_TOKE is set, which nothing reads"):
        huggingface.serve(config.load({}, {"MLPERF_CACHE_DIR": str(tmp_path)}), env)


@pytest.mark.parametrize("name", credentials.SECRET_NAMES)
def test_a_secret_with_the_settings_prefix_is_told_its_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"MLPERF_{name} is not a setting; .*: set {name}$"):
        config.load({}, {f"MLPERF_{name}": TOKEN})


def test_doctor_names_what_is_wrong_with_a_token(tmp_path: Path) -> None:
    cases = [
        ({"HF_TOKEN": f"\u201c{TOKEN}\u201d"}, WARN, "characters no token has"),
        ({"HF_TOKEN_FILE": str(tmp_path / "none")}, FAIL, "expected a readable file"),
        ({"HUGGING_FACE_HUB_TOKEN": TOKEN}, WARN, "HUGGING_FACE_HUB_TOKEN is set, which nothing reads"),
        ({"CF_ACCESS_CLIENT_ID": f"{TOKEN}\u2019"}, WARN, "CF_ACCESS_CLIENT_ID has characters"),
        ({"CF_ACCESS_ID": TOKEN}, WARN, "CF_ACCESS_ID is set, which nothing reads"),
    ]
    for env, level, text in cases:
        findings = software.tokens(env)
        assert any(f.level == level and text in f.detail for f in findings), (env, findings)
        assert TOKEN not in str(findings)


@pytest.mark.parametrize(
    ("value", "bare", "login"),
    [
        ("https://me:pa55@host/a", "https://host/a", "me:pa55"),
        ("https://tok3n@host:8080/a@b?c=d@e#f", "https://host:8080/a@b?c=d@e#f", "tok3n"),
        ("HTTP://me:p@ss@host", "HTTP://host", "me:p@ss"),
        ("https://me:pw@[::1]:80/x", "https://[::1]:80/x", "me:pw"),
        ("https://host/a@b", "https://host/a@b", ""),
        ("mlcommons@mlperf-automations", "mlcommons@mlperf-automations", ""),
        ("git@host:a/b.git", "git@host:a/b.git", ""),
        ("ssh://git@host/a", "ssh://git@host/a", ""),
    ],
)
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_password_in_an_address_is_not_in_the_settings(
    name: str, value: str, bare: str, login: str
) -> None:
    env = {f"MLPERF_{name}": value}
    made = config.load({}, env)
    assert made.to_json()[name.lower()] == bare
    assert config.user_info(name, bare, env) == login
    assert config.user_info(name, "https://other/", env) == ""
    assert config.user_info(name, bare, {}) == ""


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_that_cannot_be_read_is_not_shown(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^MLPERF_{name}: expected an address .*%2F") as caught:
        config.load({}, {f"MLPERF_{name}": "https://me:SEC/RET@host/a"})
    assert "SEC/" not in str(caught.value) and "RET" not in str(caught.value)


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_password_on_the_command_line_is_refused(name: str) -> None:
    flag = BY_NAME[name].flag
    with pytest.raises(UsageError, match=f"^{flag}: .*set MLPERF_{name}") as caught:
        config.load({name: "https://me:SECRET@host/a"}, {})
    assert "SECRET" not in str(caught.value)


def test_every_default_is_without_a_password() -> None:
    for name in ADDRESSES:
        assert settings.user_info(BY_NAME[name].default) == ""
        assert BY_NAME[name].read(BY_NAME[name].default) == BY_NAME[name].default


def test_a_password_goes_to_the_server_as_a_header() -> None:
    assert http.basic("") == {}
    assert http.basic("me:p%40ss") == {"Authorization": "Basic bWU6cEBzcw=="}


def test_git_gets_a_password_by_its_environment_alone(tmp_path: Path) -> None:
    """git clones `address` from another place that the environment names, and keeps no word of it."""
    origin, clone = tmp_path / "me:pw@host" / "repo", tmp_path / "clone"
    run = {"check": True, "capture_output": True, "text": True}
    subprocess.run(["git", "init", "-q", str(origin)], **run)  # type: ignore[call-overload]
    login = mlcr._git_login("https://host/repo", "me:pw", {"GIT_CONFIG_COUNT": "1"})
    assert login["GIT_CONFIG_COUNT"] == "2"
    assert login["GIT_CONFIG_KEY_1"] == "url.https://me:pw@host/.insteadOf"
    assert login["GIT_CONFIG_VALUE_1"] == "https://host/"
    # The same substitution, to a folder: no server is needed to see what git keeps.
    env = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{origin.parent}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://host/",
    }
    subprocess.run(["git", "clone", "-q", "https://host/repo", str(clone)], env=env, **run)  # type: ignore[call-overload]
    kept = (clone / ".git" / "config").read_text()
    assert "https://host/repo" in kept and "me:pw" not in kept


def test_mlcr_gets_no_setting_of_ours(tmp_path: Path) -> None:
    env = {"MLPERF_MLC_REPO": "https://me:SECRET@host/a", "HF_TOKEN": TOKEN, "PATH": "/bin"}
    given = mlcr._environment(tmp_path, env)
    assert "SECRET" not in str(given) and given["PATH"] == "/bin"


def test_config_is_read_back_without_a_password() -> None:
    made = config.load({}, {"MLPERF_R2_BASE_URL": "https://me:SECRET@host/a"})
    assert Config.from_json(made.to_json()) == made
    assert "SECRET" not in str(made)
