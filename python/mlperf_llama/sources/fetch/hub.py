"""A repository of the Hugging Face hub: is it open to this token, then a watched download.

`huggingface_hub` keeps its own retries and threads, so it runs in a child process that is
ended when no byte arrives. HF_ENDPOINT, HF_HOME and HF_HUB_CACHE are the user's.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...config import secret
from ...credentials import without_secrets
from ...errors import MissingError
from . import child, http, hub_cache, publisher

log = logging.getLogger(__name__)

ENDPOINT = "https://huggingface.co"
TOKENS_PAGE = f"{ENDPOINT}/settings/tokens"
# Weights, configuration and tokenizer; not the original/ folder's second copy of the weights.
WEIGHTS = "*.safetensors"
PATTERNS = ("*.json", WEIGHTS, "tokenizer.model", "*.txt", "*.jinja")
IGNORED = ("original/*", "metal/*", "onnx/*")
OFFLINE_NAMES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def endpoint(env: Mapping[str, str]) -> str:
    return (env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def cache_dir(env: Mapping[str, str]) -> Path:
    """The hub's cache folder, found as huggingface_hub finds it."""
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(env.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def repository_dir(kind: str, repo: str, env: Mapping[str, str]) -> Path:
    """Where the cache keeps a repository. `kind`: models or datasets."""
    return cache_dir(env) / f"{kind}--{repo.replace('/', '--')}"


def find(repo: str, revision: str, env: Mapping[str, str]) -> Path | None:
    """The folder of an earlier download, whole or not; None without one. No network."""
    base = repository_dir("models", repo, env)
    reference = base / "refs" / revision
    if not _COMMIT.fullmatch(revision) and reference.is_file():
        revision = reference.read_text(encoding="utf-8").strip()
    folder = base / "snapshots" / revision
    return folder if folder.is_dir() else None


def commit(folder: Path) -> str | None:
    """The commit that a snapshot folder is named after."""
    return folder.name if _COMMIT.fullmatch(folder.name) else None


def access_advice(repo: str) -> str:
    return f"open {ENDPOINT}/{repo}, log in and accept its licence"


def is_offline(env: Mapping[str, str]) -> bool:
    return any(env.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_NAMES)


def announce(kind: str, repo: str, revision: str, env: Mapping[str, str]) -> publisher.Announcement:
    """The SHA-256 of the repository's large files; `kind`: models or datasets, `revision`: a commit.

    MissingError: offline, a mirror (HF_ENDPOINT), no answer, or an answer without hashes.
    https://huggingface.co/docs/hub/api: the tree names each large file's SHA-256 as its LFS object.
    """
    if is_offline(env):
        raise MissingError("the hub was not asked: HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set")
    if not _COMMIT.fullmatch(revision):
        raise MissingError(f"{revision}: not a pinned revision")
    url = f"{endpoint(env)}/api/{kind}/{repo}/tree/{revision}?recursive=true"
    try:
        hashes = _large_files(json.loads(publisher.ask(url, http.bearer(secret("HF_TOKEN", env)))))
    except ValueError:
        raise MissingError(f"{url}: expected a JSON list of files") from None
    return publisher.Announcement(url, revision, publisher.now(), "sha256", hashes)


def _large_files(entries: object) -> dict[str, str]:
    """Path -> SHA-256 of every file that the tree lists as an LFS object."""
    hashes = {}
    for entry in entries if isinstance(entries, list) else []:
        lfs = entry.get("lfs") if isinstance(entry, dict) else None
        if isinstance(lfs, dict) and lfs.get("oid"):
            hashes[str(entry["path"])] = str(lfs["oid"])
    if not hashes:
        raise ValueError("no hashes")
    return hashes


def check_access(
    repo: str, revision: str, token: str | None, env: Mapping[str, str], patience: http.Patience
) -> None:
    """Read config.json at `revision`; every refusal says which page to open, what to set."""
    url = f"{endpoint(env)}/{repo}/resolve/{revision}/config.json"
    try:
        http.get(url, patience, http.bearer(token))
    except http.Refused as error:
        if 300 <= error.status < 400:  # let in, and sent to another host for the file
            return
        advice = f"{access_advice(repo)}, then set HF_TOKEN ({TOKENS_PAGE})"
        if error.status == 401 and token:
            advice = f"HF_TOKEN is wrong or expired; make a new one at {TOKENS_PAGE} and set it"
        elif error.status == 403:
            advice = (
                f"HF_TOKEN has no access yet; {access_advice(repo)}, and let a fine-grained token "
                f"read gated repositories ({TOKENS_PAGE})"
            )
        elif error.status not in (401, 403):
            raise
        raise http.Refused(f"{error}; {advice}", error.status) from None


def first_revision(
    repo: str,
    revisions: Sequence[str],
    token: str | None,
    env: Mapping[str, str],
    patience: http.Patience,
) -> str:
    """The first of `revisions` that the repository has and lets this token read."""
    for revision in revisions:
        try:
            check_access(repo, revision, token, env, patience)
            return revision
        except http.Refused as error:
            if error.status != 404:
                raise
            log.info("revision_absent repo=%s revision=%s", repo, revision)
    raise MissingError(f"{repo}: expected one of the revisions {', '.join(revisions)}, found none")


def snapshot(
    repo: str,
    revision: str,
    token: str | None,
    env: Mapping[str, str],
    stall_s: float,
    timeout_s: float,
    weights: bool = True,
) -> Path:
    """Download into the hub's cache what is missing or damaged there, or all of it but the weights; gives
    the snapshot's folder."""
    cache = cache_dir(env)
    base = repository_dir("models", repo, env)
    hub_cache.drop_damaged(base)
    environment = {
        **child.with_package(without_secrets(env)),
        "HF_ENDPOINT": endpoint(env),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    # A token must not be seen in the list of processes.
    environment |= {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    request = {
        "repo_id": repo,
        "revision": revision,
        "cache_dir": str(cache),
        "allow_patterns": [pattern for pattern in PATTERNS if weights or pattern != WEIGHTS],
        "ignore_patterns": IGNORED,
    }
    output = child.run(
        f"{repo} from {endpoint(env)}",
        [sys.executable, "-P", "-s", "-m", __name__, json.dumps(request)],
        env=environment,
        stall_s=stall_s,
        timeout_s=timeout_s,
        progress=child.growth(base),
        explain=_last_error,
    )
    return Path(output.splitlines()[-1])


def _main(request: str) -> str:
    """In the child process: the download itself; gives the folder, or exits with the reason."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(**json.loads(request)))
    except Exception as error:  # the border of this process: the reason is all that leaves it
        raise SystemExit(_reason(error)) from None


def _last_error(output: str) -> str:
    """Why it is still retrying, or why it gave up."""
    errors = [line for line in output.splitlines() if "Error" in line]
    return child.last_line("\n".join(errors) or output)


def _reason(error: BaseException) -> str:
    """The first line of the cause: the hub's outer errors only speak of its empty cache."""
    while error.__cause__ is not None and type(error).__module__.startswith("huggingface_hub"):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


if __name__ == "__main__":
    sys.stdout.write(_main(sys.argv[1]) + "\n")
