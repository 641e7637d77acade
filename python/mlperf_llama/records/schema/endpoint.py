"""provenance.json: a server that answered in the place of an engine, and what its probe proved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProbedServer:
    """None where the server shows nothing. `dialect`: how it is asked. `ids_in`: it was given the very ids
    that were sent; `ids_out`: its answers hold token ids, as many as it counts; `most_tokens`: of an answer
    that was limited to `limit_tokens`; `greedy`: two equal prompts were answered alike; `prefix_cache`: the
    second reused the first one's work, or would have; `streams`: the first token came before the others."""

    address: str
    software: str
    dialect: str
    version: str | None = None
    model: str | None = None
    max_model_len: int | None = None
    ids_in: bool | None = None
    ids_out: bool = False
    limit_tokens: int = 0
    most_tokens: int = 0
    greedy: bool | None = None
    prefix_cache: bool | None = None
    prefix_cache_shown_by: str = ""
    streams: bool | None = None
