"""The one filter over everything that leaves a process: streams, records, events, reports, logs.

`install` tells it the environment once per process, as signals and logging are set up once; from then on
`text` hides every secret that the environment or a NAME_FILE holds, and the user and password of every
web address, known or not. `visible` shows control characters instead of sending them to a terminal.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar, cast
from urllib.parse import unquote

from ..settings import SECRETS
from . import decoded, misnamed_secrets

log = logging.getLogger(__name__)

MASK = "***"
# Shorter ones are no tokens, and would be found in ordinary words.
LEAST = 4
# From this length on a secret is hidden inside of other words too.
LEAST_INSIDE = 8
# A file of a secret is small; and a device or a pipe is left to its one reader.
LARGEST_FILE = 1 << 16
BLOCK = 1 << 20
# The longest secret that is found across two blocks.
OVERLAP = 1 << 12
# What other programs call their secrets.
FOREIGN = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(_|$)"
)
NO_VALUE = re.compile(r"_(FILE|PATH|DIR|URL|ID)$")
# With other schemes a user alone is no secret: ssh://git@host.
ADDRESS = r"""(?P<scheme>https?://|[A-Za-z][A-Za-z0-9+.-]{0,15}://(?=[^\s/?#@:"'<>]*:))[^\s/?#"'<>]+@"""
USER_INFO = re.compile(r"://([^\s/?#]+)@")
# Controls, marks that turn the direction of writing, halves of characters, line separators.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")

T = TypeVar("T")


def _random_looking(word: str) -> bool:
    """A letter and a digit: a password that is a plain word would be found in paths and sentences."""
    return len(word) >= LEAST_INSIDE and any(map(str.isdigit, word)) and any(map(str.isalpha, word))


def _from_file(path: str) -> str:
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            return ""
        return decoded(file.read_bytes())
    except (OSError, ValueError):
        return ""


def _words(value: str) -> Iterator[str]:
    """The secret itself, whatever stands around or inside it: quotes, line breaks, byte order marks."""
    words = re.findall(r"[!-~]+", value)
    for word in words:
        for form in (word, word.strip("\"'`")):
            if len(form) >= (LEAST if len(words) == 1 else LEAST_INSIDE):
                yield form


def secrets_of(env: Mapping[str, str]) -> set[str]:
    """Every text that must not be shown."""
    secrets: set[str] = set()
    for name in {*SECRETS, *misnamed_secrets(env)}:
        value = "" if name.upper().endswith("_FILE") else env.get(name, "")
        path = env.get(name if name.upper().endswith("_FILE") else f"{name}_FILE", "")
        for text in (value, _from_file(path) if path else ""):
            secrets.update(_words(text))
    for name, value in env.items():
        if FOREIGN.search(name.upper()) and not NO_VALUE.search(name.upper()) and not value.startswith("/"):
            secrets.update(word for word in _words(value) if _random_looking(word))
        if "://" in value and "@" in value:
            secrets.update(_passwords(value))
    return secrets


def _passwords(value: str) -> Iterator[str]:
    """The passwords of addresses, as written, decoded, and as a header carries them."""
    for whole in USER_INFO.findall(value):
        for info in (whole, unquote(whole)):
            user, colon, password = info.partition(":")
            if _random_looking(password or user):
                yield password or user
            if colon:
                yield base64.b64encode(info.encode("utf-8", "surrogateescape")).decode("ascii")


def _source(word: str) -> str:
    """A regular expression for the word, also where Markdown, JSON or repr put a backslash into it."""
    body = "".join(c if c.isascii() and c.isalnum() else rf"\\{{0,2}}{re.escape(c)}" for c in word)
    return body if len(word) >= LEAST_INSIDE else rf"(?<![A-Za-z0-9_]){body}(?![A-Za-z0-9_])"


class _Filter:
    """The patterns for these words, for text and for bytes."""

    def __init__(self, words: set[str]) -> None:
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        source = "|".join([ADDRESS, *map(_source, longest_first)])
        self.text = re.compile(source)
        self.bytes = re.compile(source.encode("utf-8", "surrogateescape"))


_state = {"filter": _Filter(set())}


def install(env: Mapping[str, str]) -> None:
    """From now on hide the secrets of this environment."""
    _state["filter"] = _Filter(secrets_of(env))


def text(value: str) -> str:
    """`value` without secrets, passwords and users of addresses."""
    return _state["filter"].text.sub(lambda m: f"{m['scheme']}{MASK}@" if m["scheme"] else MASK, value)


def data(value: T) -> T:
    """Plain JSON data with every string of it redacted, names of entries too."""
    if isinstance(value, str):
        return cast(T, text(value))
    if isinstance(value, dict):
        return cast(T, {data(key): data(part) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return cast(T, type(value)(data(part) for part in value))
    return value


def visible(value: str) -> str:
    """`value` with control characters shown as \\x1b or \\u202e; line breaks and tabs stay."""
    if value.isprintable():
        return value
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in UNSEEN else c.encode("unicode_escape").decode()
        for c in value
    )


def scrub(path: Path) -> None:
    """Overwrite secrets in a file that other processes write, byte for byte: it may still be growing."""
    pattern = _state["filter"].bytes
    try:
        with path.open("r+b") as stream:
            start = 0
            while block := stream.read(BLOCK):
                for match in pattern.finditer(block):
                    first, end = match.span()
                    if match["scheme"]:
                        first, end = match.end("scheme"), end - 1
                    stream.seek(start + first)
                    stream.write(b"*" * (end - first))
                start += len(block) if len(block) < BLOCK else BLOCK - OVERLAP
                stream.seek(start)
    except FileNotFoundError:
        return
    except OSError as error:
        # At the end of a run that failed: the failure itself matters more.
        log.warning("not_scrubbed path=%s error=%s", path, error)


class Stream:
    """A text stream that hides secrets; everything but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, value: str) -> int:
        self._stream.write(text(value))
        return len(value)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def streams() -> Iterator[None]:
    """Hide secrets on standard output and standard error; at the end both are as before."""
    before = sys.stdout, sys.stderr, _state["filter"]
    sys.stdout, sys.stderr = cast(TextIO, Stream(sys.stdout)), cast(TextIO, Stream(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr, _state["filter"] = before
