"""vLLM's own OpenAI server with this package's arguments, scheduler and extension, in this process.

It differs from the engine in process in what a server needs: a tokenizer, for clients that send text, and
vLLM's metrics, which show that nothing is reused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import Progress
from .hopper import compat
from .vllm import VllmEngine

# What the engine in process does without.
_OF_A_SERVER = {"skip_tokenizer_init": False, "disable_log_stats": False}


def serve(
    arguments: Mapping[str, Any],
    cache_dir: Path,
    environment: Mapping[str, str],
    listen: tuple[str, int],
    name: str,
    key: str | None,
    progress: Progress,
) -> None:
    """Until it is interrupted or terminated. `listen`: host and port; `name`: the model's, for clients;
    `key`: the bearer token that they must send. MissingError: something that vLLM needs is not here."""
    engine = VllmEngine({**arguments, **_OF_A_SERVER}, cache_dir, environment)
    prepared = engine.prepare(progress)
    parser = compat.make_arg_parser(compat.FlexibleArgumentParser())
    options = parser.parse_args([])
    host, port = listen
    chosen = {
        "host": host,
        "port": port,
        "served_model_name": [name],
        "api_key": [key] if key else None,
        # Sampling by default is a client's choice, not the checkpoint's.
        "generation_config": "vllm",
        # The client of MLPerf Endpoints sends the benchmark's own.
        "trust_request_chat_template": True,
        "disable_uvicorn_access_log": True,
    }
    for option, value in {**prepared, **chosen}.items():
        setattr(options, option, value)
    asyncio.run(compat.run_server(options))
