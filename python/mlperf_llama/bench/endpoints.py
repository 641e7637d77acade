"""Servers as a session's engine: made, told of each run, and what their probe proved recorded."""

from __future__ import annotations

from .. import rules
from ..config import Config
from ..engine import Engine, Limits
from ..engine.endpoint import EndpointEngine
from ..errors import UsageError
from ..records.run_folder import RunFolder
from ..records.schema import Provenance


def make_engine(config: Config, vocabulary: int, key: str | None) -> EndpointEngine:
    longest = Limits(rules.MAX_NEW_TOKENS, rules.MAX_NEW_TOKENS, ())
    return EndpointEngine(
        config.endpoints, longest, vocabulary, key=key, seats=config.max_num_seqs, seed=config.seed
    )


def record(run: RunFolder, config: Config, engine: Engine) -> None:
    """provenance.json: what the probe proved. UsageError: text is to be scored whose tokens nobody knows."""
    if not isinstance(engine, EndpointEngine):
        return
    run.update(Provenance, endpoints=tuple(server.probed for server in engine.servers))
    silent = [server.probed.address for server in engine.servers if not server.dialect.gives_ids]
    if silent and set(config.mode) != {"performance"}:
        raise UsageError(
            f"MODE: expected performance alone, as {', '.join(silent)} gives text without token ids, which "
            f"is never made into tokens here; found {','.join(config.mode)}"
        )


def begin_run(engine: Engine, mode: str) -> None:
    """In accuracy mode a busy server is asked again; in the others its error ends the run."""
    if isinstance(engine, EndpointEngine):
        engine.begin_run(retries=mode == "accuracy")
