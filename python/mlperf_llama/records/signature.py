"""The signature of a seal: hashes.json, signed with an SSH key (ssh-keygen -Y) or with minisign.

A seal can be made again by whoever edits the folder with this code; a signature cannot, without
the key. The settings SIGN_KEY and ALLOWED_SIGNERS are of the environment alone: a run folder
comes from somebody else, and must not say which key signs, or whose signature counts.
https://www.openssh.com/txt/release-8.1 (signatures), https://jedisct1.github.io/minisign/
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import environment
from ..errors import BrokeError, MissingError, UsageError
from ..settings import PREFIX
from .files import write_text
from .run_folder import RunFolder
from .schema import Seal

NAMESPACE = "mlperf-run-folder"
SSH, MINISIGN = f"{Seal.FILE}.sig", f"{Seal.FILE}.minisig"
# Both files of a minisign key begin so.
MINISIGN_HEAD = "untrusted comment:"
# A person may have to type a passphrase.
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Verified:
    """Whether the signature is good, and what that proves, in words."""

    good: bool
    detail: str


def key_setting() -> Path | None:
    return _path("SIGN_KEY")


def signers_setting() -> Path | None:
    return _path("ALLOWED_SIGNERS")


def _path(name: str) -> Path | None:
    value = environment().get(f"{PREFIX}{name}", "").strip()
    return Path(value).expanduser() if value else None


def remove(run: RunFolder) -> None:
    """A stage begins: the signature was of the seal before it."""
    for name in (SSH, MINISIGN):
        run.file(name).unlink(missing_ok=True)


def sign(run: RunFolder, key: Path) -> Path:
    """Sign the seal; the signature's file. MissingError: no key or no program; BrokeError: it refused."""
    if run.read(Seal).open is not None:
        raise UsageError(f"{run.path}: expected a stage that has ended, found one at work; nothing is signed")
    if _is_minisign(key, "SIGN_KEY"):
        _run("minisign", "-S", "-s", key, "-m", run.file(Seal.FILE), "-x", run.file(MINISIGN))
        return run.file(MINISIGN)
    signature = _run("ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", NAMESPACE, data=_sealed(run))
    write_text(run.file(SSH), signature)
    return run.file(SSH)


def verify(run: RunFolder) -> Verified | None:
    """What the signature proves; None where there is none to speak of: no file and no ALLOWED_SIGNERS, or
    nobody's word is asked for and the program that reads it is not here."""
    signers = signers_setting()
    if not run.file(SSH).is_file() and not run.file(MINISIGN).is_file():
        return Verified(False, "not signed, and ALLOWED_SIGNERS asks for a signature") if signers else None
    try:
        if signers and _is_minisign(signers, "ALLOWED_SIGNERS"):
            return _by_minisign(run, signers)
        return _by_named_signer(run, signers) if signers else _by_some_key(run)
    except BrokeError as error:
        return Verified(False, f"the signature is not of this {Seal.FILE}: {error}")
    except MissingError as error:
        return Verified(False, str(error)) if signers else None


def _by_some_key(run: RunFolder) -> Verified | None:
    """Whoever holds the key that the signature itself names has signed: that nothing changed since, and not
    who it was."""
    if not run.file(SSH).is_file():
        return None
    words = _run(
        "ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", run.file(SSH), data=_sealed(run)
    )
    key = words.strip().rpartition(" with ")[2] or "a key"
    return Verified(True, f"signed with {key}; whose key that is, ALLOWED_SIGNERS would tell")


def _by_named_signer(run: RunFolder, signers: Path) -> Verified:
    """Somebody whom the file of allowed signers names has signed."""
    if not run.file(SSH).is_file():
        return Verified(False, f"signed with minisign, and {signers} is no minisign public key")
    principals = _run("ssh-keygen", "-Y", "find-principals", "-s", run.file(SSH), "-f", signers)
    name = principals.strip().splitlines()[0]
    command = ("ssh-keygen", "-Y", "verify", "-f", signers, "-I", name, "-n", NAMESPACE, "-s", run.file(SSH))
    _run(*command, data=_sealed(run))
    return Verified(True, f"signed by {name}, whom {signers} names")


def _by_minisign(run: RunFolder, public: Path) -> Verified:
    if not run.file(MINISIGN).is_file():
        return Verified(False, f"not signed with minisign, and {public} is a minisign public key")
    _run("minisign", "-V", "-p", public, "-m", run.file(Seal.FILE), "-x", run.file(MINISIGN))
    return Verified(True, f"signed with the minisign key of {public}")


def _sealed(run: RunFolder) -> bytes:
    return run.file(Seal.FILE).read_bytes()


def _is_minisign(path: Path, setting: str) -> bool:
    try:
        return path.read_bytes().startswith(MINISIGN_HEAD.encode())
    except OSError as error:
        raise MissingError(f"{setting}: expected a key's file, found {path}: {error.strerror}") from None


def _run(program: str, *words: str | Path, data: bytes = b"") -> str:
    """A program's standard output; MissingError where it is not here, BrokeError with its reason else."""
    command: Sequence[str] = (program, *map(str, words))
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        raise MissingError(f"{program} is not installed here, and the signature needs it") from None
    except subprocess.TimeoutExpired:
        raise BrokeError(
            f"{program}: no answer within {TIMEOUT_S:g} s (does the key need a passphrase?)"
        ) from None
    if done.returncode:
        lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
        raise BrokeError(f"{program}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
