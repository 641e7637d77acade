"""The reference for harness.py: LoadGen, two pipes, and a process that answers at once.

Only response ids cross the pipes; every answer is the same buffer. Nothing can be done
with less between LoadGen and an engine in another process, so this is the floor.
Usage: bare_pipe.py SPEC (a mlperf_llama.loadgen.child.Spec as JSON).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from mlperf_llama.loadgen import child

TOKENS = 128
CHUNK = 1 << 20


def answer(queries: int, answers: int) -> None:
    """The other process: send back what comes."""
    while data := os.read(queries, CHUNK):
        view = memoryview(data)
        while view:
            view = view[os.write(answers, view) :]
    os._exit(0)


def main(spec: child.Spec) -> None:
    read_queries, write_queries = os.pipe()
    read_answers, write_answers = os.pipe()
    if os.fork() == 0:
        os.close(write_queries)
        answer(read_queries, write_answers)
    lg = child.import_loadgen(spec.loadgen_dir)
    tokens = array("i", range(TOKENS))
    address = tokens.buffer_info()[0]
    response, streaming = lg.QuerySampleResponse, spec.scenario != "Offline"

    def complete() -> None:
        rest = b""
        while data := os.read(read_answers, CHUNK):
            data = rest + data
            whole = len(data) // 8 * 8
            ids, rest = array("Q", data[:whole]), data[whole:]
            if streaming:
                lg.FirstTokenComplete([response(i, address, 4, 1) for i in ids])
            lg.QuerySamplesComplete([response(i, address, 4 * TOKENS, TOKENS) for i in ids])

    def issue(response_ids: list[int], _indices: list[int]) -> None:
        view = memoryview(array("Q", response_ids)).cast("B")
        while view:
            view = view[os.write(write_queries, view) :]

    threading.Thread(target=complete, daemon=True).start()
    system = lg.ConstructFastSUT(issue, lambda: None)
    library = lg.ConstructQSL(spec.sample_count, spec.sample_count, lambda _: None, lambda _: None)
    gc.disable()
    sys.setswitchinterval(child.SWITCH_INTERVAL_S)
    settings, logging = child.test_settings(lg, spec), child.log_settings(lg, spec.out_dir)
    lg.StartTestWithLogSettings(system, library, settings, logging, spec.audit_conf)
    os._exit(0)


if __name__ == "__main__":
    main(child.Spec(**json.loads(sys.argv[1])))
