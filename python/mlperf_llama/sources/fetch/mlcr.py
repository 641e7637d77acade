"""MLCommons' own command, `mlcr` (package mlcflow), without a terminal and with a deadline.

The script repository is fetched on first use at a pinned commit; everything it keeps goes
below our cache folder, so that it works for any user. `-s` is always passed to the R2
downloader that a script starts: with it a protected bucket is an error, without it the
downloader would wait for a browser for ever.

Seen running: the pinned repository, cloned from a local copy, down to the command line of the
R2 downloader (with `-s`); a small script to its end; no network, a failing script, a stall.
Not seen running: the download itself, because MLCommons' hosts were not reachable while this
was written. A download that the script calls good is still checked by the source that asked for it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...config import Config
from ...credentials import user_info, without_secrets
from ...errors import MissingError
from ...records import lock
from ...records.files import write_text
from ...settings import PREFIX
from . import child, r2
from .cached import is_complete, mark_complete

log = logging.getLogger(__name__)

# What the `mlcommons` sources follow: branch main of
# https://github.com/mlcommons/mlperf-automations on 22 July 2026.
DEFAULT_REPO = "mlcommons@mlperf-automations"
COMMIT = "20d3d94c4fbbefca1a69f0e2b23295d196fd3e63"
TOOLS = ("git", "curl", "wget")
# The service token instead of a browser; no packages installed on the user's system.
FLAGS = ("--env.MLC_AUTH_USING_SERVICE_ACCOUNT=yes", "--env.MLC_SKIP_SYS_UTILS=yes", "--quiet", "-j")
# What mlcflow leaves in a script's folder beside the data.
LEFTOVERS = "tmp-*"
# Says which script repository is there.
PULLED = "pulled"
_NOISE = re.compile(r"^\[?[\d-]{10} [\d:,.]+ \S+ (INFO|WARNING|DEBUG)\]?")


def run(tags: Sequence[str], config: Config, env: Mapping[str, str], stall_s: float | None = None) -> Path:
    """`mlcr TAGS --outdirname=FOLDER`; gives the folder. A finished one is not fetched again.

    MissingError, with the reason in one line: `mlcr` or a tool that it needs is not here,
    the script repository cannot be fetched, the script failed or stalled.
    """
    joined = ",".join(tags)
    root = config.cache_path / "mlcr"
    out = root / "out" / hashlib.sha256(joined.encode()).hexdigest()[:16]
    if is_complete(out):
        return out
    # Its script repository and its HOME serve every call.
    with lock.turn(root):
        if not is_complete(out):
            _run(joined, root, out, config, env, stall_s)
    return out


def _run(
    joined: str, root: Path, out: Path, config: Config, env: Mapping[str, str], stall_s: float | None
) -> None:
    stall_s = config.source_stall_s if stall_s is None else stall_s
    deadline = time.monotonic() + config.source_timeout_s
    commands = _commands(env)
    out.mkdir(parents=True, exist_ok=True)
    environment = _environment(root, env)
    environment |= _git_login(config.mlc_repo, user_info("MLC_REPO", config.mlc_repo, env), env)
    _pull(commands, config.mlc_repo, root, environment, stall_s, config.source_timeout_s)
    try:
        child.run(
            f"mlcr {joined}",
            [commands / "mlcr", joined, f"--outdirname={out}", *FLAGS],
            env=environment,
            stall_s=stall_s,
            timeout_s=max(1.0, deadline - time.monotonic()),
            progress=child.growth(root),
            cwd=root,
            explain=_reason,
        )
    except MissingError:
        # A file of the script repository may be damaged or gone: the next run has it pulled again.
        (root / PULLED).unlink(missing_ok=True)
        raise
    for path in out.rglob(LEFTOVERS):
        path.unlink()
    names = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()]
    if not names:
        raise MissingError(f"mlcr {joined}: it ended well, but left no file in {out}")
    mark_complete(out, names)


def _commands(env: Mapping[str, str]) -> Path:
    """The folder of `mlc` and `mlcr`: beside this Python, or on PATH."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=env.get("PATH")) is None]
    if missing:
        raise MissingError(f"mlcr: expected {', '.join(TOOLS)} on PATH, found no {', '.join(missing)}")
    environment = Path(sys.executable).parent
    if (environment / "mlcr").is_file():
        return environment
    command = shutil.which("mlcr", path=env.get("PATH"))
    if not command:
        raise MissingError("mlcr: not installed; it comes with the package mlcflow")
    return Path(command).parent


def _environment(root: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The environment that keeps mlcr in our cache and away from prompts and other secrets."""
    token = r2.token_headers(env)
    credentials = {
        "CF_ACCESS_CLIENT_ID": token.get("CF-Access-Client-Id", ""),
        "CF_ACCESS_CLIENT_SECRET": token.get("CF-Access-Client-Secret", ""),
    }
    return {
        # Our own settings mean nothing to it, and an address among them may hold a password.
        **{name: value for name, value in without_secrets(env).items() if not name.startswith(PREFIX)},
        "HOME": str(root),
        "MLC_REPOS": str(root / "repos"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "BROWSER": "true",
        "DISPLAY": "",
        "PIP_NO_INPUT": "1",
        **{name: value for name, value in credentials.items() if value},
    }


def _git_login(address: str, login: str, env: Mapping[str, str]) -> dict[str, str]:
    """Has git put USER:PASSWORD into the address itself, so that neither stands in the clone's configuration
    or in a list of processes (https://git-scm.com/docs/git-config, GIT_CONFIG_COUNT and insteadOf)."""
    if not login:
        return {}
    scheme, _, rest = address.partition("://")
    host = rest.split("/")[0]
    count = env.get("GIT_CONFIG_COUNT", "")
    number = int(count) if count.isdigit() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": f"url.{scheme}://{login}@{host}/.insteadOf",
        f"GIT_CONFIG_VALUE_{number}": f"{scheme}://{host}/",
    }


def _pull(
    commands: Path, repo: str, root: Path, env: Mapping[str, str], stall_s: float, timeout_s: float
) -> None:
    """Fetch the script repository at its commit, unless it is there.

    `repo` is MLC_REPO: user@name, an address or a path; `#COMMIT` after it pins one.
    """
    address, _, commit = repo.partition("#")
    commit = commit or (COMMIT if repo == DEFAULT_REPO else "")
    marker = root / PULLED
    if marker.is_file() and marker.read_text(encoding="utf-8") == f"{address}#{commit}":
        return
    marker.unlink(missing_ok=True)
    # mlcflow pulls before it checks out, which fails on a detached commit: start afresh.
    shutil.rmtree(root / "repos", ignore_errors=True)
    pin = [f"--checkout={commit}"] if commit else []
    root.mkdir(parents=True, exist_ok=True)
    child.run(
        f"mlcr: the script repository {address}",
        [commands / "mlc", "pull", "repo", address, *pin],
        env=env,
        stall_s=stall_s,
        timeout_s=timeout_s,
        progress=child.growth(root),
        cwd=root,
        explain=_reason,
    )
    write_text(marker, f"{address}#{commit}")


def _reason(output: str) -> str:
    """The error among mlcflow's log lines: git's own words, or the first ERROR."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "Error:", "Error :", "curl:"))]
    errors = [line for line in lines if " ERROR" in line]
    others = [line for line in lines if not _NOISE.match(line)]
    return (fatal or errors or others or [""])[0][: child.REASON_CHARS]
