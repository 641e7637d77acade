"""The part of standin_servers that knows the Hugging Face hub's addresses and answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Repo:
    """A hub repository at one revision. `kind` is "models" or "datasets"."""

    kind: str
    name: str
    revision: str
    files: Mapping[str, bytes]
    gated: bool = False


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(data: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(data).encode(), {"Content-Type": "application/json"})


def api(repo: Repo, rest: str, query: Mapping[str, list[str]]) -> Reply:
    """Repository info, the file tree, and what is known of single paths."""
    if rest.startswith("/tree/"):
        _, _, folder = rest[len("/tree/") :].partition("/")
        deep = query.get("recursive", [""])[0].lower() in ("1", "true")
        return as_json(_tree(repo, folder, deep))
    if rest.startswith("/paths-info/"):
        wanted = [path.strip("/") for path in query.get("paths", [])]
        return as_json([entry for entry in _tree(repo, "", True) if entry["path"] in wanted])
    if rest and rest.removeprefix("/revision/") not in (repo.revision, "main"):
        return Reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
    siblings = [{"rfilename": name} for name in repo.files]
    gated = "manual" if repo.gated else False
    info = {"id": repo.name, "sha": repo.revision, "private": False, "gated": gated, "tags": []}
    return as_json({**info, "_id": "0", "siblings": siblings, "downloads": 0, "likes": 0})


def _tree(repo: Repo, folder: str, deep: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    prefix = folder.strip("/") + "/" if folder.strip("/") else ""
    for name, body in repo.files.items():
        if not name.startswith(prefix):
            continue
        parts = name[len(prefix) :].split("/")
        for depth in range(1, len(parts) if deep else min(len(parts), 2)):
            path = prefix + "/".join(parts[:depth])
            found[path] = {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
        if deep or len(parts) == 1:
            oid = hashlib.sha1(body).hexdigest()
            large = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
            found[name] = {"type": "file", "path": name, "size": len(body), "oid": oid, "lfs": large}
    return list(found.values())
