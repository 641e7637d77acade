"""scripts/lib.sh: exit codes, messages, settings."""

from __future__ import annotations

import pytest

from mlperf_llama import errors

from .conftest import ROOT, Sandbox


def sourced(box: Sandbox, script: str, **env: str) -> tuple[int, str, str]:
    done = box.run("bash", "-Eeuo", "pipefail", "-c", f"source scripts/lib.sh\n{script}", **env)
    return done.returncode, done.stdout, done.stderr


def test_exit_codes_equal_those_of_the_package(sandbox: Sandbox) -> None:
    names = [n for n in vars(errors) if n.startswith("EXIT_")]
    _, out, _ = sourced(sandbox, "\n".join(f"printf '%s\\n' \"${n}\"" for n in names))
    assert [int(line) for line in out.split()] == [getattr(errors, n) for n in names]


def test_die_says_one_line_on_stderr_and_exits(sandbox: Sandbox) -> None:
    code, out, err = sourced(sandbox, 'die "$EXIT_MISSING" "expected this," "found that"')
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert err.endswith(" error: expected this, found that\n")


def test_require_names_the_command_and_the_reason(sandbox: Sandbox) -> None:
    code, _, err = sourced(sandbox, 'require no-such-command "to show it"')
    assert code == 3
    assert "no-such-command is needed (to show it)" in err


@pytest.mark.parametrize(
    ("lines", "env", "value"),
    [
        ("", {}, "auto"),
        ("MLPERF_CONTAINER=0\n", {}, "0"),
        ("MLPERF_CONTAINER=0\n", {"MLPERF_CONTAINER": "1"}, "1"),
        ("#MLPERF_CONTAINER=0\nMLPERF_CONTAINERS=7\n", {}, "auto"),
        ("  MLPERF_CONTAINER = a b$HOME'=\\n \nMLPERF_X=1\n", {}, "a b$HOME'=\\n"),
        ("MLPERF_CONTAINER=0\nMLPERF_CONTAINER=1\n", {}, "1"),
        ("MLPERF_CONTAINER=\n", {}, "auto"),
    ],
)
def test_setting_reads_environment_then_env_file(
    sandbox: Sandbox, lines: str, env: dict[str, str], value: str
) -> None:
    (sandbox.root / ".env").write_text(lines)
    code, out, _ = sourced(sandbox, "setting CONTAINER auto", **env)
    assert (code, out) == (0, value)


def test_env_file_has_another_name_where_told(sandbox: Sandbox) -> None:
    (sandbox.root / "other.env").write_text("MLPERF_CONTAINER=1\n")
    assert sourced(sandbox, "setting CONTAINER auto", MLPERF_ENV_FILE="other.env")[1] == "1"


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_no_colour_away_from_a_terminal(sandbox: Sandbox, env: dict[str, str]) -> None:
    _, _, err = sourced(sandbox, "warn something", **env)
    assert "\033" not in err


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal_unless_told_not_to(sandbox: Sandbox, no_color: str, coloured: bool) -> None:
    # `script` gives its command a terminal; what the command writes comes on stdout.
    command = "source scripts/lib.sh; warn something"
    done = sandbox.run("script", "-qec", f"bash -c '{command}'", "/dev/null", NO_COLOR=no_color)
    assert "something" in done.stdout
    assert ("\033[33m" in done.stdout) == coloured


SECRETS = (
    "HF_TOKEN",
    "CF_ACCESS_CLIENT_ID",
    "CF_ACCESS_CLIENT_SECRET",
    "CF_ACCESS_TOKEN",
    "ENDPOINT_API_KEY",
)


@pytest.mark.parametrize("say", ['log "$TEXT"', 'warn "$TEXT"', 'die 3 "$TEXT"'])
@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_messages_show_no_secret(sandbox: Sandbox, say: str, name: str, end: str) -> None:
    secret = "hf_S*CRET[x]yz"
    text = f"expected x, found {secret}, at https://me:SECRET@host/x and http://SECRET@other"
    _, _, err = sourced(sandbox, say, TEXT=text, **{name: secret + end})
    assert err.endswith("expected x, found ***, at https://***@host/x and http://***@other\n")


@pytest.mark.parametrize("text", ["x in xylophone", "https://host/a@b", "git@host:a", "100% \\n"])
def test_ordinary_messages_stay(sandbox: Sandbox, text: str) -> None:
    _, _, err = sourced(sandbox, 'warn "$TEXT"', TEXT=text, HF_TOKEN="x")
    assert err.endswith(f"warning: {text}\n")


@pytest.mark.parametrize("say", ['warn "$TEXT"', 'die 3 "$TEXT"'])
def test_messages_pass_no_control_character_on(sandbox: Sandbox, say: str) -> None:
    _, _, err = sourced(sandbox, say, TEXT="a\x1b[2J\r\x07\x7f\tÜ")
    assert err.endswith(": a\\x1b[2J\\r??\tÜ\n")


def test_without_a_folder_for_temporary_files_it_is_one_line_and_code_3(sandbox: Sandbox) -> None:
    code, out, err = sourced(sandbox, "name=$(temporary_folder)\nprintf 'went on'", TMPDIR="/nowhere")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "found /nowhere: set TMPDIR to another" in err
    code, out, _ = sourced(sandbox, "temporary_folder", TMPDIR=str(sandbox.home))
    assert code == 0 and [str(path) for path in sandbox.home.iterdir()] == [out.strip()]


def test_every_script_asks_for_temporary_files_in_this_way() -> None:
    """environment.sh alone is a part of the image's layers and sources nothing."""
    scripts = [path for pattern in ("*.sh", "scripts/*", "docker/*.sh") for path in ROOT.glob(pattern)]
    users = {path.name for path in scripts if path.is_file() and "mktemp" in path.read_text()}
    assert users == {"lib.sh", "environment.sh"}
