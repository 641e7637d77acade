"""A member's process: connects to the head, loads the engine it is told to, serves until the head is gone.

Loading blocks the loop, so a thread speaks for it meanwhile: it beats, and it notices a head that is gone.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import select
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import EXIT_BROKE, EXIT_OK, BrokeError, MissingError, PipelineError, UsageError
from ...machine import gpus
from ...machine.processes import end_children
from ...records import scales, seal
from ...records.codec import to_json
from ...sources.model import checkpoint
from .. import Engine, EngineInfo
from ..fake import FakeEngine
from ..frames import Decoder, Frame, FrameError
from . import settings, wire
from .serve import Serving
from .settings import Failure, Loaded, MemberSettings
from .tail import Tail

log = logging.getLogger(__name__)

# A worker may be started before its head: by hand, by Slurm, by Kubernetes.
REACH_S, RETRY_S = 300.0, 0.5
# So often it may be turned away: another run may have had the address a moment ago.
MOST_REFUSALS = 10
# Of the handshake's messages, each.
SHAKE_S = 20.0
# What a dying process printed has come through its pipe by then.
PRINTED_S = 0.2
# After the head is gone the engine gets this long to close.
END_S = 10.0


@dataclass(frozen=True)
class Head:
    """The head's address as given on the command line, and the token."""

    host: str
    port: int
    token: str = field(repr=False)

    @staticmethod
    def parse(address: str, token: str | None) -> Head:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(f"--head: expected HOST:PORT, found {address!r}")
        if not token:
            raise MissingError(
                "expected the head's token in REPLICAS_TOKEN, or its file in REPLICAS_TOKEN_FILE"
            )
        return Head(host.strip("[]"), int(port), token)


class Refused(OSError):
    """A head is there and does not let this member in."""


def connect(head: Head, member: int, reach_s: float = REACH_S) -> socket.socket:
    """A connection on which both ends have proved the token. MissingError: no head there, or another one."""
    began, refusals = time.monotonic(), 0
    while True:
        try:
            return _shaken(head, member)
        except OSError as error:
            refusals += isinstance(error, Refused)
            if refusals >= MOST_REFUSALS or time.monotonic() - began > reach_s:
                raise MissingError(
                    f"expected a head at {head.host}:{head.port} that lets this member in, found: "
                    f"{error.strerror or error}"
                ) from None
        time.sleep(RETRY_S)


def _shaken(head: Head, member: int) -> socket.socket:
    sock = socket.create_connection((head.host, head.port), timeout=SHAKE_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head_nonce = wire.read_greeting(_exactly(sock, wire.GREETING_BYTES))
        own_nonce = wire.new_nonce()
        sock.sendall(wire.answer(head.token, member, head_nonce, own_nonce))
        if _exactly(sock, wire.PROOF_BYTES) != wire.head_proof(head.token, head_nonce, own_nonce):
            raise Refused("it does not know the token")
    except FrameError as error:
        sock.close()
        raise Refused(str(error)) from None
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise Refused("it closed the connection: a wrong token, or a member it does not expect")
        data += part
    return data


class Herald:
    """Speaks for a member whose loop is busy loading; ends the process when the head is gone."""

    def __init__(self, sock: socket.socket, tail: Tail) -> None:
        self._sock, self._tail = sock, tail
        self._lock = threading.Lock()
        self._silent = False
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, data: bytes) -> None:
        with self._lock:
            if not self._silent:
                self._sock.sendall(data)

    def printed(self) -> str:
        return self._tail.take()

    def hand_over(self) -> None:
        """The loop writes from now on; the thread only watches."""
        with self._lock:
            self._silent = True

    def report(self, error: PipelineError) -> None:
        """Why loading failed, behind what was printed on the way."""
        # The engine's process may have printed the cause a moment ago.
        time.sleep(PRINTED_S)
        kind = {MissingError: settings.MISSING, UsageError: settings.USAGE}.get(type(error), settings.BROKE)
        with suppress(OSError):
            self.send(wire.words(wire.LOG, self._tail.take(rest=True)))
            self.send(wire.text(wire.FAILED, asdict(Failure(kind, str(error)))))

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while True:
            gone = bool(poll.poll(1000 * wire.BEAT_S))
            with suppress(OSError):
                self.send(wire.beat(0.0))
                if not self._silent and (printed := self._tail.take()):
                    self.send(wire.words(wire.LOG, printed))
            if gone:
                # The loop sees it too, if it runs, and closes the engine properly.
                time.sleep(END_S if self._silent else 0)
                end_now("the head is gone")


def end_now(reason: str) -> None:
    """End this process and the engine's, whatever they are doing."""
    with suppress(OSError):
        os.write(2, f"worker: {reason}\n".encode())
    end_children()
    os._exit(EXIT_BROKE)


def run(head: Head, member: int) -> int:
    """The whole life of a member; its exit code."""
    sock = connect(head, member)
    decoder = Decoder(wire.MOST_BYTES)
    waiting = first_frames(sock, decoder)
    given = wire.record(waiting[0], MemberSettings)
    with Tail() as tail:
        herald = Herald(sock, tail)
        herald.start()
        try:
            return asyncio.run(_serve(sock, herald, given, member, decoder, waiting[1:]))
        except PipelineError as error:
            herald.report(error)
            raise
        finally:
            end_children()


def first_frames(sock: socket.socket, decoder: Decoder) -> list[Frame]:
    """The settings, and what came behind them."""
    sock.settimeout(SHAKE_S)
    frames: list[Frame] = []
    while not frames:
        data = sock.recv(1 << 16)
        if not data:
            raise BrokeError("the head closed the connection before it sent settings")
        frames += decoder.feed(data)
    sock.settimeout(None)
    if frames[0].kind != wire.SETTINGS:
        raise BrokeError("expected the head's settings first")
    return frames


def make_engine(given: MemberSettings, member: int) -> Engine:
    """The engine that the settings name. Members share what compilers keep, but for vLLM's own cache, which
    two processes must not fill at once."""
    if given.engine == "fake":
        script = dict(given.arguments)
        if script.get("member", member) != member:
            script.pop("fault", None)
        return FakeEngine(script)
    if given.model_dir and not Path(given.model_dir).is_dir():
        raise MissingError(
            f"expected the model in {given.model_dir}, as on the head, found no such folder: "
            "share it between the hosts, or copy it to the same path"
        )
    from ..vllm import VllmEngine

    cache = Path(given.cache_dir).expanduser()
    own = {"VLLM_CACHE_ROOT": str(cache / f"vllm-{member}")} if member > 0 else {}
    if given.scales is not None:
        own[scales.VARIABLE] = _file_of(given.scales)
    return VllmEngine(given.arguments, cache, {**given.environment, **own})


def _file_of(text: str) -> str:
    """A file of this process, gone at its end."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False, encoding="utf-8") as stream:
        stream.write(text)
    atexit.register(lambda: Path(stream.name).unlink(missing_ok=True))
    return stream.name


def _model_sha256(given: MemberSettings) -> str | None:
    """Of the weights here: remembered where the head, on this very host, has just hashed them."""
    if not given.model_dir or given.model_sha256 is None:
        return None
    remembered = given.host_id == settings.host_id()
    cache = Path(given.cache_dir).expanduser()
    return checkpoint.combined(checkpoint.digests(Path(given.model_dir), cache, remembered))


def _loaded(info: EngineInfo, model_sha256: str | None) -> Loaded:
    return Loaded(
        info=info,
        host=socket.gethostname(),
        pid=os.getpid(),
        gpus=gpus.describe(os.environ).gpus,
        cpus=len(os.sched_getaffinity(0)),
        code_sha256=seal.source_sha256(),
        model_sha256=model_sha256,
    )


async def _serve(
    sock: socket.socket,
    herald: Herald,
    given: MemberSettings,
    member: int,
    decoder: Decoder,
    waiting: list[Frame],
) -> int:
    """Load, report, serve. Whatever loading raises goes to the head."""
    engine = make_engine(given, member)
    with ThreadPoolExecutor(1) as pool:
        sha256: Future[str | None] = pool.submit(_model_sha256, given)
        info = await engine.start(_sender(herald))
        loaded = _loaded(info, sha256.result())
    serving = Serving(engine, decoder, herald.printed)
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


def _sender(herald: Herald) -> Callable[[str], None]:
    return lambda text: herald.send(wire.words(wire.STEP, text))
