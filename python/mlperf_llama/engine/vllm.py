"""vLLM in process: AsyncLLM on one asyncio loop for its whole life.

vLLM is imported here and in hopper/compat.py alone. Token ids go in and come out: vLLM sees no tokenizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ..errors import BrokeError, MissingError
from ..records import scales
from ..records.schema import SelfCheck
from . import EngineInfo, Limits, Progress, Request, Sink, checkpoint, hopper, importing, resolved
from .hopper import bounds, compat
from .importing import prepare_environment
from .pacing import Pacing

log = logging.getLogger(__name__)

# Quantisations that are ours, not vLLM's own, by name: the module that makes vLLM know them.
_OURS = {"int8": "int8", scales.QUANTIZATION: "static_fp8"}


def begin_import() -> None:
    """Import vLLM in a thread, behind `importing.prepare_import`; `VllmEngine.start` waits for it and tells
    what is wrong with it."""
    importing.VLLM.begin(_import_vllm)


def _import_vllm() -> None:
    import vllm  # noqa: F401

    # The larger half; a fault in it is told by who asks for these names again, after its own checks.
    with contextlib.suppress(Exception):
        if compat.installed() in compat.CHECKED and compat.current_platform.device_type:
            _ = compat.AsyncEngineArgs, compat.AsyncLLM, compat.tokens_input


class VllmEngine:
    """AsyncLLM behind the engine protocol. `arguments` are vLLM's AsyncEngineArgs."""

    def __init__(self, arguments: Mapping[str, Any], cache_dir: Path, environment: Mapping[str, str]) -> None:
        self._arguments = dict(arguments)
        self._cache_dir = cache_dir
        self._environment = environment
        self._llm: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._serial = 0
        self._counters: dict[str, float] = {}
        self._details: dict[str, object] = {}

    def prepare(self, progress: Progress) -> dict[str, Any]:
        """Import vLLM and make it know what is ours; the arguments to load it with. MissingError: something
        is not here."""
        prepare_environment(self._cache_dir, self._environment)
        self._check_scales()
        progress("importing vLLM")
        try:
            importing.VLLM.finish()
            import vllm  # noqa: F401
        except ImportError as error:
            raise MissingError(
                f"vLLM cannot be imported here ({error}); `make doctor` tells how to mend it"
            ) from error
        if hopper.is_asked_for(self._arguments):
            compat.check_version("the fast path for Hopper")
            self._refuse_fast_path(progress)
        elif self._arguments.get("worker_extension_cls") == hopper.RANDOM:
            compat.check_version("the filling of made-up weights", "run a model that has weights")
        if not compat.current_platform.device_type:
            raise MissingError(
                "expected an NVIDIA GPU for vLLM's CUDA build, found none: start the container with "
                "--gpus all on a host with NVIDIA's driver and toolkit, or take the CPU build (TARGET=cpu)"
            )
        if ours := _OURS.get(str(self._arguments.get("quantization"))):
            importlib.import_module(f".{ours}", __package__)
        return hopper.with_splitting_ops(self._arguments)

    async def start(self, progress: Progress) -> EngineInfo:
        """Load the weights. Blocks the loop, as vLLM does: nothing else runs yet."""
        began = time.monotonic()
        arguments = self.prepare(progress)
        import vllm

        started = time.monotonic()
        import_s = round(started - began, 2)
        progress("loading the model")
        try:
            engine_arguments = compat.AsyncEngineArgs(**arguments)
            self._llm = compat.AsyncLLM.from_engine_args(engine_arguments)
        except Exception as error:
            raise BrokeError(f"vLLM could not load {self._arguments['model']}: {error}") from error
        load_s = round(time.monotonic() - started, 2)
        details = {**await self._utility("mlperf_counters"), **self._details}
        checked = await self._self_check(progress)
        return EngineInfo(
            "vllm",
            vllm.__version__,
            self._settings(),
            load_s,
            details,
            checked,
            import_s=import_s,
            arguments=resolved.data(self._arguments),
            resolved=resolved.data(self._llm.vllm_config),
        )

    async def _self_check(self, progress: Progress) -> SelfCheck | None:
        """The fast path against vLLM's own; None where it was not loaded."""
        if not hopper.is_asked_for(self._arguments):
            return None
        progress("comparing the kernels for Hopper with vLLM's own path")
        try:
            by_worker = await self._llm.collective_rpc("mlperf_self_check")
            figures = next(figures for figures in by_worker if figures is not None)
        except Exception as error:
            raise BrokeError(
                "the kernels for Hopper could not be compared with vLLM's own path: "
                f"{error!r}; {compat.OWN_PATH}"
            ) from error
        record = bounds.record(str(self._arguments["worker_extension_cls"]), figures)
        log.info(
            "self_check passed=%s mean=%s largest=%s s=%s",
            record.passed,
            record.mean,
            record.largest,
            record.seconds,
        )
        return record

    def _check_scales(self) -> None:
        """Refuse a file of scales that is not the model's before anything loads."""
        if self._arguments.get("quantization") != scales.QUANTIZATION:
            return
        # The run's own, also where another run in this process set it.
        os.environ.update({k: v for k, v in self._environment.items() if k == scales.VARIABLE})
        checkpoint.check_scales(os.environ.get(scales.VARIABLE), Path(self._arguments["model"]))

    def _refuse_fast_path(self, progress: Progress) -> None:
        """vLLM's own path where the extension does not serve what is to be loaded."""
        reason = hopper.not_served(
            self._arguments, checkpoint.quantization_of(Path(self._arguments["model"]))
        )
        if reason is None:
            return
        self._arguments = hopper.without_extension(self._arguments)
        self._details["fast_path_not_served"] = reason
        log.warning("fast_path served=False reason=%s", reason)
        progress(f"vLLM's own path: the kernels for Hopper do not serve {reason}")

    def _settings(self) -> dict[str, object]:
        """What the engine really uses, read back from vLLM's own resolved configuration."""
        config = self._llm.vllm_config
        return {
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "load_format": str(config.load_config.load_format),
            "kv_cache_dtype": str(config.cache_config.cache_dtype),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "enable_prefix_caching": bool(config.cache_config.enable_prefix_caching),
            "speculative_decoding": config.speculative_config is not None,
            "async_scheduling": bool(config.scheduler_config.async_scheduling),
            "enforce_eager": bool(config.model_config.enforce_eager),
            "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
            "gpu_memory_utilization": config.cache_config.gpu_memory_utilization,
            "worker_extension_cls": config.parallel_config.worker_extension_cls,
        }

    async def _utility(self, name: str, *arguments: object) -> Any:
        return await self._llm.engine_core.call_utility_async(name, *arguments)

    async def set_limits(self, max_num_seqs: int | None, prefill_tokens: int | None) -> None:
        """Limits for the runs that follow, under the ceilings that were loaded."""
        await self._utility("mlperf_set_limits", max_num_seqs, prefill_tokens)

    async def set_pacing(self, pacing: Pacing) -> None:
        """Which steps prompts may enter in the runs that follow."""
        await self._utility("mlperf_set_pacing", *astuple(pacing))

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        from vllm import SamplingParams

        kinds = compat.RequestOutputKind
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=limits.max_new_tokens,
            min_tokens=limits.min_new_tokens,
            stop_token_ids=list(limits.stop_ids),
            ignore_eos=not limits.stop_ids,
            detokenize=False,
            output_kind=kinds.DELTA if streaming else kinds.FINAL_ONLY,
        )
        for request in requests:
            task = asyncio.create_task(self._answer(request, parameters, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request, parameters: Any, sink: Sink) -> None:
        self._serial += 1
        tokens: list[int] = []
        streaming = parameters.output_kind.name == "DELTA"
        try:
            outputs = self._llm.generate(
                compat.tokens_input(list(request.prompt)), parameters, request_id=str(self._serial)
            )
            async for output in outputs:
                new = output.outputs[0].token_ids
                if streaming and not tokens and new:
                    sink.first_token(request.id, new[0])
                tokens.extend(new)
            sink.completed(request.id, tokens)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            sink.failed(error)

    async def refresh_counters(self) -> None:
        """Ask the engine process for its totals; `counters` then gives them."""
        self._counters = await self._utility("mlperf_counters")

    def counters(self) -> dict[str, float]:
        return dict(self._counters)

    async def close(self) -> None:
        """Cancel what is under way and end the engine process, at most seconds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._llm is not None:
            self._llm.shutdown(timeout=2)
            self._llm = None
