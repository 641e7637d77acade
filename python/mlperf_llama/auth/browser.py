"""MLCommons' log-in in a browser, through Cloudflare's cloudflared where it is installed, with a deadline.

https://developers.cloudflare.com/cloudflare-one/tutorials/cli/: `access login` opens the page or prints its
address, `access token` gives the token afterwards. Seen running with a stand-in of the command.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from ..credentials import redaction, trimmed, without_secrets
from ..errors import MissingError

NAME = "CF_ACCESS_TOKEN"
# For the person at the browser; and for the command to give what it has.
LOGIN_S, TOKEN_S = 300.0, 20.0
# A JSON Web Token: `access login` prints it, and nobody shall see it.
TOKEN = re.compile(r"[\w-]{10,}\.[\w-]{10,}\.[\w-]+")


def command(env: Mapping[str, str]) -> str | None:
    """The path of cloudflared; None where it is not installed."""
    return shutil.which("cloudflared", path=env.get("PATH"))


def log_in(url: str, env: Mapping[str, str], show: Callable[[str], None], login_s: float = LOGIN_S) -> str:
    """The token of a log-in at `url`. MissingError: not installed, not done in time, or it gave none.

    `show`: takes each line that the command prints, without tokens.
    """
    program = command(env)
    if program is None:
        raise MissingError("cloudflared: expected Cloudflare's command on PATH, found none: install it")
    _run([program, "access", "login", url], env, login_s, show)
    lines: list[str] = []
    _run([program, "access", "token", f"-app={url}"], env, TOKEN_S, lines.append)
    tokens = [trimmed(line) for line in lines if TOKEN.fullmatch(trimmed(line))]
    if not tokens:
        raise MissingError("cloudflared: expected a token after the log-in, found none: log in again")
    return tokens[-1]


def _run(arguments: list[str], env: Mapping[str, str], limit_s: float, take: Callable[[str], None]) -> None:
    """The command in a process group of its own, which ends with it."""
    what = f"cloudflared access {arguments[2]}"
    try:
        process = subprocess.Popen(
            arguments,
            env=without_secrets(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise MissingError(f"{what}: could not be started: {error.strerror}") from None
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, take), daemon=True)
    reader.start()
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise MissingError(f"{what}: expected it to end within {limit_s:g} s, it did not") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(2)
    if code:
        raise MissingError(f"{what}: ended with code {code}")


def _read(stream: IO[str], take: Callable[[str], None]) -> None:
    for line in stream:
        take(line.rstrip("\n"))


def hidden(line: str) -> str:
    """A line of the command that may be shown."""
    return redaction.visible(TOKEN.sub("***", line))
