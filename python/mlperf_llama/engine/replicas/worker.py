"""A member's process: connects to the head, loads the engine it is told to, serves until the head is gone."""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...errors import EXIT_BROKE, EXIT_OK, BrokeError, MissingError, PipelineError
from ...machine import gpus
from ...machine.gpu_sampler import GpuSampler
from ...machine.process.record import Recorder
from ...machine.processes import end_children
from ...records import scales
from ...records.codec import to_json
from ...records.schema import PythonProcess
from ...records.source import source_sha256
from ...sources.model import checkpoint
from .. import Engine, EngineInfo
from ..fake import FakeEngine
from ..frames import Decoder, Frame, FrameError
from . import wire
from .herald import END_S, Herald
from .protocol import HeadAddress
from .reach import SHAKE_S, connect
from .serve import Serving
from .settings import Loaded, MemberSettings, host_id
from .tail import Tail


def run(head: HeadAddress, member: int) -> int:
    """The whole life of a member; its exit code."""
    sock = connect(head, member)
    decoder = Decoder(wire.MOST_BYTES)
    settings, waiting = receive_settings(sock, decoder)
    with Tail() as tail:
        herald = Herald(sock, tail)
        herald.start()
        try:
            return asyncio.run(_serve(sock, herald, settings, decoder, waiting))
        except PipelineError as error:
            herald.report(error)
            raise
        finally:
            end_children()


def receive_settings(sock: socket.socket, decoder: Decoder) -> tuple[MemberSettings, list[Frame]]:
    """The settings, and the frames that came behind them. BrokeError: there are none to be read."""
    sock.settimeout(SHAKE_S)
    frames: list[Frame] = []
    try:
        while not frames:
            data = sock.recv(1 << 16)
            if not data:
                raise FrameError("the connection's end")
            frames += decoder.feed(data)
        if frames[0].kind != wire.SETTINGS:
            raise FrameError(f"a frame of kind {frames[0].kind}")
        settings = wire.record(frames[0], MemberSettings)
    except (OSError, ValueError) as error:
        raise BrokeError(f"expected the settings of a head of this version, found: {error}") from None
    sock.settimeout(None)
    return settings, frames[1:]


def make_engine(settings: MemberSettings) -> Engine:
    """The engine that the settings name. Members share what compilers keep, but for vLLM's own cache, which
    two processes must not fill at once."""
    if settings.engine == "fake":
        script = dict(settings.arguments)
        if script.get("member", settings.index) != settings.index:
            script.pop("fault", None)
        return FakeEngine(script)
    if settings.model_dir and not Path(settings.model_dir).is_dir():
        raise MissingError(
            f"expected the model in {settings.model_dir}, as on the head, found no such folder: "
            "share it between the hosts, or copy it to the same path"
        )
    from ..vllm import VllmEngine

    cache = Path(settings.cache_dir).expanduser()
    own = {"VLLM_CACHE_ROOT": str(cache / f"vllm-{settings.index}")} if settings.index else {}
    if settings.scales is not None:
        own[scales.VARIABLE] = _file_of(settings.scales)
    return VllmEngine(settings.arguments, cache, {**settings.environment, **own})


def _file_of(text: str) -> str:
    """A file of this process, gone at its end."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False, encoding="utf-8") as stream:
        stream.write(text)
    atexit.register(lambda: Path(stream.name).unlink(missing_ok=True))
    return stream.name


def _model_sha256(settings: MemberSettings) -> str | None:
    """Of the weights here: remembered where the head, on this very host, has just hashed them."""
    if not settings.model_dir or settings.model_sha256 is None:
        return None
    remembered = settings.host_id == host_id()
    cache = Path(settings.cache_dir).expanduser()
    return checkpoint.combined(checkpoint.digests(Path(settings.model_dir), cache, remembered))


def _loaded(info: EngineInfo, model_sha256: str | None, process: PythonProcess) -> Loaded:
    return Loaded(
        info=info,
        host=socket.gethostname(),
        pid=os.getpid(),
        gpus=gpus.describe(os.environ).gpus,
        cpus=len(os.sched_getaffinity(0)),
        code_sha256=source_sha256(),
        model_sha256=model_sha256,
        process=process,
    )


async def _serve(
    sock: socket.socket,
    herald: Herald,
    settings: MemberSettings,
    decoder: Decoder,
    waiting: list[Frame],
) -> int:
    """Load, report, serve. Whatever loading raises goes to the head."""
    engine = make_engine(settings)
    recorder = Recorder(settings.engine, {}, thorough=settings.thorough)
    info = await engine.start(lambda text: herald.send(wire.words(wire.STEP, text)))
    # Hashed once the engine has its processes: one that is forked meanwhile could inherit OpenSSL's lock.
    sha256 = await asyncio.to_thread(_model_sha256, settings)
    process = replace(await asyncio.to_thread(recorder.finish), member=settings.index)
    loaded = _loaded(info, sha256, process)
    with GpuSampler(loaded.gpus) as sampler:
        serving = Serving(engine, decoder, herald.printed, sampler)
        herald.hand_over()
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        transport, _ = await loop.create_connection(lambda: serving, sock=sock)
        transport.write(wire.text(wire.LOADED, to_json(loaded)))
        serving.begin(waiting)
        try:
            await serving.ended
        finally:
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.close(), END_S / 2)
            transport.close()
    if serving.reason:
        print(f"worker: {serving.reason}", file=sys.stderr)
    return EXIT_BROKE if serving.reason else EXIT_OK
