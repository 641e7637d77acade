"""NLTK's English sentence model (punkt_tab): found here, or fetched once and kept.

A missing model comes out of the wheel llama-index-core, which carries the official files,
and only then by NLTK's own downloader: the wheel is locked by hash and comes from the index
that the environment was installed from, while a machine without a way to GitHub would wait
for the downloader's deadline.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import MissingError, PipelineError
from ..records.files import atomic_folder, digest

log = logging.getLogger(__name__)

ENGLISH = Path("tokenizers/punkt_tab/english")
WHEEL = "llama-index-core"
# sha256 of the files in NLTK's punkt_tab.zip of 2024-07-09.
FILES = {
    "abbrev_types.txt": "92a3e070f43d9b4c5534758ca40ad7343b04e7e29bfe0c2eb658a39445a4f779",
    "collocations.tab": "8e2da1225e4dd2cc9dba261ee231ccb134859e21b46006e7f472c5ee269af0cf",
    "ortho_context.tab": "4bbcca25ed3d3f06c02402abf8419b9f033b8adc06e7b482eca4e45f81a5dc4c",
    "sent_starters.txt": "f3f8535483e1dba487241b764945168123bca3209a9645e59acd1225dc76edac",
}
# NLTK's downloader waits up to 300 s by itself.
DOWNLOADER_DEADLINE_S = 20.0
DOWNLOAD = "import sys, nltk; nltk.download('punkt_tab', download_dir=sys.argv[1], quiet=True)"


def ensure(cache_dir: Path, env: Mapping[str, str], official: bool = False) -> Path:
    """A data folder with the English model, put first on NLTK's search path.

    Looks in NLTK_DATA, in NLTK's own folders (`<sys.prefix>/nltk_data` among them) and in
    the cache before it fetches into the cache. MissingError where it cannot be had; with
    `official` no other than the pinned one will do: the sentences decide ROUGE-Lsum.
    """
    import nltk

    named = [Path(p).expanduser() for p in env.get("NLTK_DATA", "").split(os.pathsep) if p]
    cached = cache_dir / "nltk_data"
    folders = [*named, *(Path(p) for p in nltk.data.path), cached]
    sound = (p for p in folders if _complete(p, official=official or p == cached))
    root = next(sound, None) or install(cached)
    if not _complete(root, official=True):
        log.warning("sentence_model_differs path=%s: scores may differ from the official ones", root)
    use(root)
    return root


def use(root: Path) -> None:
    """Make NLTK look in `root` first."""
    import nltk

    if str(root) not in nltk.data.path[:1]:
        nltk.data.path.insert(0, str(root))


def install(target: Path) -> Path:
    """Put the official English model into the data folder `target`, unless it is there."""
    if _complete(target, official=True):
        return target
    reasons = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".punkt.") as temporary:
            for fetch in (_from_wheel, _from_nltk):
                try:
                    _move_in(fetch(Path(temporary)), target)
                    log.info("sentence_model_fetched by=%s path=%s", fetch.__name__.strip("_"), target)
                    return target
                except PipelineError as error:
                    reasons.append(str(error))
    except OSError as error:
        raise MissingError(f"{target}: expected a folder that can be written: {error.strerror}") from None
    raise MissingError(
        f"NLTK's punkt_tab (English) is in no data folder and could not be fetched: {'; '.join(reasons)}; "
        "set NLTK_DATA to a folder that holds tokenizers/punkt_tab/english"
    )


def _complete(root: Path, official: bool) -> bool:
    """Whether the four files are there; with `official`, also whether they are the pinned ones."""
    files = [root / ENGLISH / name for name in FILES]
    try:
        if not official:
            return all(file.is_file() for file in files)
        return all(digest(file) == FILES[file.name] for file in files)
    except OSError:
        return False


def _from_wheel(folder: Path) -> Path:
    from ..sources.fetch import wheel

    english = folder / "wheel" / ENGLISH
    wheel.extract(WHEEL, english, lambda member: member.rpartition("/")[0].endswith(ENGLISH.as_posix()))
    return english


def _from_nltk(folder: Path) -> Path:
    """NLTK's downloader, in a process of its own because it can hang for minutes."""
    command = [sys.executable, "-c", DOWNLOAD, str(folder)]
    try:
        subprocess.run(command, timeout=DOWNLOADER_DEADLINE_S, check=False, capture_output=True)
    except subprocess.TimeoutExpired:
        raise MissingError(f"NLTK's downloader: no answer in {DOWNLOADER_DEADLINE_S:.0f} s") from None
    if not _complete(folder, official=False):
        raise MissingError("NLTK's downloader: its server could not be reached")
    return folder / ENGLISH


def _move_in(english: Path, target: Path) -> None:
    """Check the fetched files against the pinned hashes and move the folder into place."""
    for name, expected in FILES.items():
        file = english / name
        actual = digest(file) if file.is_file() else "no file"
        if actual != expected:
            raise MissingError(f"punkt_tab/english/{name}: expected sha256 {expected}, found {actual}")
    folder = target / ENGLISH
    if folder.exists():
        shutil.rmtree(folder)
    with atomic_folder(folder) as work:
        shutil.copytree(english, work, dirs_exist_ok=True)
