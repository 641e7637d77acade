"""Keeps tokens for later runs: in .env, or as files that .env names. Nobody but their owner may read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError
from ..records.files import atomic
from ..settings import PREFIX

ENV, FILES = "env", "files"
MODE, FOLDER_MODE = 0o600, 0o700


def env_file(env: Mapping[str, str]) -> Path:
    """The file that config.environment reads, behind a symbolic link."""
    return Path(env.get(f"{PREFIX}ENV_FILE") or ".env").resolve()


def keep(where: str, tokens: Mapping[str, str], env: Mapping[str, str]) -> list[Path]:
    """Write the tokens; the files that hold them."""
    path = env_file(env)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: expected a file to keep tokens in, found another thing: set ENV_FILE")
    try:
        if where == ENV:
            _set_lines(path, tokens)
            return [path]
        folder = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mlperf-llama"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        for name, value in tokens.items():
            _write(folder / name, value + "\n")
        _set_lines(path, {f"{name}_FILE": str(folder / name) for name in tokens})
        return [folder / name for name in tokens]
    except OSError as error:
        raise UsageError(f"{error.filename}: expected a file that can be written: {error.strerror}") from None


def _set_lines(path: Path, values: Mapping[str, str]) -> None:
    """Put NAME=value lines into an env file; a token has one line, by its value or by its file."""
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    bare = [name.removesuffix("_FILE") for name in values]
    replaced = {*bare, *(f"{name}_FILE" for name in bare)}
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in replaced]
    _write(path, "\n".join([*kept, *(f"{name}={value}" for name, value in values.items())]) + "\n")


def _write(path: Path, text: str) -> None:
    """Atomically, and never readable by others, not for a moment."""
    with atomic(path, MODE) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
