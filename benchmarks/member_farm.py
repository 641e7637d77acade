"""Many fake members in one process, for benchmarks of the head: what they cost is small and their own.

    python benchmarks/member_farm.py HOST:PORT COUNT     token in REPLICAS_TOKEN

Each is a whole member but for its process: its own connection, handshake, frames and fake engine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from mlperf_llama.engine.frames import Decoder
from mlperf_llama.engine.replicas import wire
from mlperf_llama.engine.replicas.protocol import TOKEN_NAME, HeadAddress
from mlperf_llama.engine.replicas.reach import connect, parse
from mlperf_llama.engine.replicas.serve import Serving
from mlperf_llama.engine.replicas.settings import Loaded
from mlperf_llama.engine.replicas.worker import make_engine, receive_settings
from mlperf_llama.machine.gpu_sampler import GpuSampler
from mlperf_llama.records.codec import to_json


async def serve(head: HeadAddress, member: int) -> None:
    sock = await asyncio.to_thread(connect, head, member)
    decoder = Decoder(wire.MOST_BYTES)
    given, waiting = await asyncio.to_thread(receive_settings, sock, decoder)
    engine = make_engine(given)
    info = await engine.start(lambda text: None)
    serving = Serving(engine, decoder, lambda: "", GpuSampler(()))
    sock.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: serving, sock=sock)
    transport.write(wire.text(wire.LOADED, to_json(Loaded(info, "farm", os.getpid()))))
    serving.begin(waiting)
    await serving.ended
    transport.close()


async def main(address: str, count: int) -> None:
    head = parse(address, os.environ.get(TOKEN_NAME))
    await asyncio.gather(*(serve(head, member) for member in range(count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
