"""What a server says of itself: model, version, and whether it keeps a prefix cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from .answer import ServerError, ServerLostError
from .client import Client

S = TypeVar("S", bound=msgspec.Struct)
_LABEL = re.compile(r'^vllm:cache_config_info\{[^}]*enable_prefix_caching="(\w+)"', re.MULTILINE)
_HITS = re.compile(r"^vllm:prefix_cache_hits(?:_total)?(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class About:
    """None where the server does not say. `radix_cache`: SGLang's prefix cache."""

    model: str | None = None
    max_model_len: int | None = None
    version: str | None = None
    radix_cache: bool | None = None


@dataclass(frozen=True)
class PrefixCache:
    """By vLLM's metrics: whether it is on, and how many tokens were reused since the server began."""

    enabled: bool | None = None
    hits: float | None = None


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class _Version(msgspec.Struct):
    version: str | None = None


class _ServerInfo(msgspec.Struct):
    version: str | None = None
    disable_radix_cache: bool | None = None


async def read(client: Client) -> About:
    """ServerLostError where no server answers; what one does not know is None."""
    models = _decoded(await _content(client, "/v1/models"), _Models) or _Models()
    version = _decoded(await _content(client, "/version"), _Version) or _Version()
    info = None
    for path in ("/server_info", "/get_server_info"):
        info = info or _decoded(await _content(client, path), _ServerInfo)
    info = info or _ServerInfo()
    model = models.data[0] if models.data else None
    off = info.disable_radix_cache
    return About(
        model.id if model else None,
        model.max_model_len if model else None,
        version.version or info.version,
        None if off is None else not off,
    )


async def prefix_cache(client: Client) -> PrefixCache:
    text = (await _content(client, "/metrics") or b"").decode("utf-8", "replace")
    label, hits = _LABEL.search(text), _HITS.findall(text)
    try:
        total = sum(map(float, hits)) if hits else None
    except ValueError:
        total = None
    return PrefixCache(label[1] == "True" if label else None, total)


def reuses(
    known: About, before: PrefixCache, after: PrefixCache, cached_tokens: int | None
) -> tuple[bool | None, str]:
    """Whether the second of two equal prompts reused the first one's work, and what shows it; None where
    nothing does. `cached_tokens`: what the second answer says."""
    hits = None if before.hits is None or after.hits is None else after.hits - before.hits
    if cached_tokens:
        return True, f"the second of two equal prompts reused {cached_tokens} tokens"
    if hits:
        return True, f"/metrics counted {hits:g} reused tokens"
    for enabled, where in ((after.enabled, "/metrics"), (known.radix_cache, "/server_info")):
        if enabled is not None:
            return enabled, f"{where} says that it is {'on' if enabled else 'off'}"
    if cached_tokens == 0 or hits == 0:
        return False, "the second of two equal prompts reused nothing"
    return None, "the server does not show whether it reuses prompts"


async def _content(client: Client, path: str) -> bytes | None:
    try:
        return await client.get(path)
    except ServerLostError:
        raise
    except ServerError:
        return None


def _decoded(content: bytes | None, kind: type[S]) -> S | None:
    try:
        return None if content is None else msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
