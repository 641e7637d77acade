"""LoadGen's process: `python -m mlperf_llama.loadgen.child FD SPEC`.

One run a process: LoadGen loads its compiled settings only at a process's first
FromConfig, and it aborts or segfaults on some errors. FD is the inherited end of a
socket pair to the engine's process; SPEC is a JSON object (see `Spec`). Whatever is
printed here goes to the parent's record of this child, never to its stdout.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from types import ModuleType

from . import link

# Threads change hands this fast when both want the interpreter. Python's 5 ms would be
# added to the latency of a query that is due while a large frame is being completed.
SWITCH_INTERVAL_S = 1e-4
EXIT_ORPHANED, EXIT_FAULT = 9, 1


@dataclass(frozen=True)
class Spec:
    """What the parent asks for. Paths are absolute; `mode` is "accuracy" or another."""

    loadgen_dir: str
    user_conf: str
    audit_conf: str
    out_dir: str
    model: str
    scenario: str
    mode: str
    sample_count: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class SettingsError(Exception):
    """LoadGen did not take the settings; the message goes to the parent."""


def import_loadgen(folder: str) -> ModuleType:
    sys.path.insert(0, folder)
    return importlib.import_module("mlperf_loadgen")


def test_settings(lg: ModuleType, spec: Spec) -> object:
    """TestSettings from user.conf over the compiled mlperf.conf, checked."""
    settings = lg.TestSettings()
    code = settings.FromConfig(spec.user_conf, spec.model, spec.scenario)
    if code != 0:
        raise SettingsError(
            f"{spec.user_conf}: expected lines of `key = value`, LoadGen's FromConfig returned {code}"
        )
    # A model string that mlperf.conf does not know matches nothing and says nothing.
    if not settings.use_token_latencies:
        raise SettingsError(f"mlperf.conf: expected settings for model {spec.model!r}, found none")
    if settings.performance_sample_count_override != spec.sample_count:
        raise SettingsError(
            f"{spec.user_conf}: expected performance_sample_count_override {spec.sample_count}, "
            f"found {settings.performance_sample_count_override}"
        )
    # FromConfig's third argument does not set the scenario.
    settings.scenario = getattr(lg.TestScenario, spec.scenario)
    accuracy = spec.mode == "accuracy"
    settings.mode = lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly
    return settings


def log_settings(lg: ModuleType, out_dir: str) -> object:
    output = lg.LogOutputSettings()
    output.outdir = out_dir
    output.copy_summary_to_stdout = False
    output.copy_detail_to_stdout = False
    settings = lg.LogSettings()
    settings.log_output = output
    settings.enable_trace = False
    return settings


def complete_first_tokens(lg: ModuleType, frame: link.Frame) -> None:
    ids, tokens = link.read_first_tokens(frame)
    address = tokens.buffer_info()[0]
    response = lg.QuerySampleResponse
    lg.FirstTokenComplete([response(i, address + 4 * n, 4, 1) for n, i in enumerate(ids)])


def complete(lg: ModuleType, frame: link.Frame) -> None:
    """Responses point into the frame's tokens; LoadGen copies what it keeps before it returns."""
    ids, lengths, tokens = link.read_completions(frame)
    address = tokens.buffer_info()[0]
    responses, response = [], lg.QuerySampleResponse
    for response_id, length in zip(ids, lengths, strict=True):
        responses.append(response(response_id, address, 4 * length, length))
        address += 4 * length
    lg.QuerySamplesComplete(responses)


def read_responses(lg: ModuleType, sock: socket.socket) -> None:
    """Thread: hand the parent's frames to LoadGen. Ends the process when the parent is gone."""
    decoder = link.Decoder()
    view = memoryview(bytearray(1 << 20))
    while True:
        try:
            size = sock.recv_into(view)
        except OSError:
            size = 0
        if size == 0:
            os._exit(EXIT_ORPHANED)
        for frame in decoder.feed(view[:size]):
            if frame.kind == link.FIRST_TOKENS:
                complete_first_tokens(lg, frame)
            else:
                complete(lg, frame)


def end_with_traceback(fault: threading.ExceptHookArgs) -> None:
    """A reader that died would leave LoadGen waiting for ever."""
    sys.excepthook(fault.exc_type, fault.exc_value or fault.exc_type(), fault.exc_traceback)
    sys.stderr.flush()
    os._exit(EXIT_FAULT)


def run(spec: Spec, sock: socket.socket) -> None:
    """One LoadGen test, from settings to closed logs."""
    lg = import_loadgen(spec.loadgen_dir)
    settings = test_settings(lg, spec)
    threading.excepthook = end_with_traceback
    threading.Thread(target=read_responses, args=(lg, sock), daemon=True).start()

    def issue(response_ids: list[int], indices: list[int]) -> None:
        try:
            sock.sendall(link.queries(response_ids, indices))
        except OSError:
            os._exit(EXIT_ORPHANED)

    system = lg.ConstructFastSUT(issue, lambda: None)
    library = lg.ConstructQSL(spec.sample_count, spec.sample_count, lambda _: None, lambda _: None)
    sock.sendall(link.control(link.READY, str(lg.__file__)))
    gc.disable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lg.StartTestWithLogSettings(system, library, settings, log_settings(lg, spec.out_dir), spec.audit_conf)


def main(arguments: list[str]) -> None:
    # An abort must not spend seconds on writing memory to a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sock = socket.socket(fileno=int(arguments[0]))
    try:
        run(Spec(**json.loads(arguments[1])), sock)
    except (SettingsError, ImportError) as error:
        sock.sendall(link.control(link.ERROR, str(error)))
    else:
        sock.sendall(link.control(link.DONE))
    # Without LoadGen's static destructors, which have nothing left to write, and without
    # waiting for the reader.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
