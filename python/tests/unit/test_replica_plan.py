"""Which engines a run has, and what the head and a member first say to each other."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from mlperf_llama import config
from mlperf_llama.engine import Limits, Request
from mlperf_llama.engine.frames import Decoder, FrameError, frame
from mlperf_llama.engine.replicas import plan, wire, worker
from mlperf_llama.engine.replicas.ray_cluster import Slot, slots_of
from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.records.schema import Gpu

FOUR = tuple(Gpu(index, "NVIDIA H100 80GB HBM3", f"GPU-{index}", source="nvml") for index in range(4))


def settings(**given: str) -> config.Config:
    return config.load(given, {})


def visible(gpus: Sequence[Gpu] = FOUR, **given: str) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each member."""
    chosen = settings(**given)
    return [spec.gpu for spec in plan.members(chosen, plan.chosen_gpus(chosen, gpus))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"GPUS": "all"}, ["0", "1", "2", "3"]),
        ({"GPUS": "1"}, ["0"]),
        ({"GPUS": "2"}, ["0", "1"]),
        ({"GPUS": "3,1"}, ["3", "1"]),
        ({"GPUS": "3,"}, ["3"]),
        ({"GPUS": "0,"}, ["0"]),
        ({"TENSOR_PARALLEL": "2"}, ["0,1", "2,3"]),
        ({"TENSOR_PARALLEL": "3"}, ["0,1,2"]),
        ({"TENSOR_PARALLEL": "8"}, ["0,1,2,3"]),
        ({"ENGINE_ARGS": '{"tensor_parallel_size": 4}'}, ["0,1,2,3"]),
        ({"GPUS": "0,2,1,3", "TENSOR_PARALLEL": "2"}, ["0,2", "1,3"]),
        ({"ENGINE": "fake"}, ["0"]),
        ({"ENGINE": "fake", "GPUS": "3"}, ["0", "1", "2"]),
        ({"ENGINE": "fake", "GPUS": "7,9"}, ["7", "9"]),
    ],
)
def test_a_member_for_each_group(given: dict[str, str], expected: list[str]) -> None:
    assert visible(**given) == expected


def test_without_a_gpu_there_is_one_engine() -> None:
    assert visible(()) == [None]
    with pytest.raises(MissingError, match="GPUS: expected 2 GPUs, found no GPU that answers"):
        visible((), GPUS="2")


def node(name: str, gpus: float, cpus: float, alive: bool = True) -> dict[str, object]:
    """As ray.nodes() lists it."""
    resources = {"GPU": gpus, "CPU": cpus} if gpus else {"CPU": cpus}
    return {"NodeID": name, "NodeManagerAddress": "10.0.0.1", "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [Slot("a", 1, 1)] * 5 + [Slot("b", 1, 4)] * 2),
        (2, [Slot("a", 2, 2)] * 2 + [Slot("b", 2, 8)]),
        (4, [Slot("a", 4, 4)]),
        (8, []),
    ],
)
def test_a_slot_of_ray_for_each_group(size: int, expected: list[Slot]) -> None:
    nodes = [node("b", 2, 64), node("a", 5, 9), node("c", 0, 8), node("d", 8, 64, alive=False)]
    assert slots_of(nodes, size) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, (None, 1)), ({"TENSOR_PARALLEL": "2"}, (None, 2)), ({"TENSOR_PARALLEL": "2", "GPUS": "6"}, (3, 2))],
)
def test_groups_that_ray_is_asked_for(given: dict[str, str], expected: tuple[int | None, int]) -> None:
    chosen = settings(**given)
    assert isinstance(chosen.gpus, int | None)
    assert plan.groups(chosen, chosen.gpus) == expected


def test_gpus_that_make_no_whole_groups() -> None:
    with pytest.raises(UsageError, match="groups of TENSOR_PARALLEL=2, found 5 GPUs"):
        plan.groups(settings(TENSOR_PARALLEL="2"), 5)


@pytest.mark.parametrize(
    ("gpus", "error", "message"),
    [
        ("5", MissingError, "expected 5 GPUs, found 4 that answer"),
        ("2,6", MissingError, r"expected GPUs 2, 6, found 0, 1, 2, 3; absent: 6"),
    ],
)
def test_gpus_that_are_not_here(gpus: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        visible(GPUS=gpus)


def test_groups_are_whole() -> None:
    with pytest.raises(UsageError, match="groups of TENSOR_PARALLEL=2, found 3 GPUs"):
        visible(GPUS="3", TENSOR_PARALLEL="2")


def test_an_order_that_only_cuda_knows() -> None:
    unknown = tuple(Gpu(0, "one of unlike GPUs") for _ in range(2))
    assert visible(unknown) == ["0"]
    with pytest.raises(UsageError, match="found CUDA_DEVICE_ORDER set"):
        visible(unknown, GPUS="2")


def test_an_instance_of_mig_has_no_number() -> None:
    assert visible([Gpu(2, "H100 MIG", "MIG-1", mig=True, source="nvml")]) == ["MIG-1"]


@pytest.mark.parametrize("value", ["0", "-1", "a", "1,1", "1,,2", ",", "1;2", "1.5", "²"])
def test_gpus_is_read_strictly(value: str) -> None:
    with pytest.raises(UsageError, match="gpus: expected a count of 1 or more, or numbers"):
        settings(GPUS=value)


def test_gpus_comes_back_from_config_json() -> None:
    for value in ("all", "2", "3,1", "3,"):
        given = settings(GPUS=value)
        assert config.Config.from_json({**given.to_json(), "gpus": given.gpus}).gpus == given.gpus


@pytest.mark.parametrize("count", [1, 3])
def test_requests_survive_the_wire(count: int) -> None:
    batch = [Request(2**63 + 1, [1, 2, 128009]), Request(7, []), Request(0, [5])][:count]
    data = wire.requests(batch, [wire.prompt_bytes(request.prompt) for request in batch])
    (received,) = Decoder().feed(data)
    read = wire.read_requests(received)
    assert [(r.id, list(r.prompt)) for r in read] == [(r.id, list(r.prompt)) for r in batch]


def test_terms_survive_the_wire() -> None:
    terms = wire.Terms(Limits(128, 1, (128001, 128009)), True)
    (received,) = Decoder().feed(wire.run(terms))
    assert wire.read_run(received) == terms


def test_frames_that_lie_are_refused() -> None:
    (short,) = Decoder().feed(frame(wire.REQUESTS, 1, b"\0" * 8, (5).to_bytes(4, "little"), b"\0" * 8))
    with pytest.raises(FrameError, match="expected 5 token ids in a frame, found 2"):
        wire.read_requests(short)
    (cut,) = Decoder().feed(frame(wire.REQUESTS, 1, b"\0" * 8, (1).to_bytes(4, "little"), b"\0" * 3))
    with pytest.raises(FrameError, match="expected whole token ids in a frame, found 15 bytes"):
        wire.read_requests(cut)
    (beat,) = Decoder().feed(frame(wire.BEAT, 0, b"\0" * 7))
    with pytest.raises(FrameError, match="expected 8 bytes in a beat, found 7"):
        wire.read_beat(beat)
    with pytest.raises(FrameError, match="expected at most 64 bytes in a frame, found 100"):
        list(Decoder(64).feed(frame(wire.BEAT, 0, b"x" * 100)))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the connection's end"),
        (wire.words(wire.STEP, "loading"), f"a frame of kind {wire.STEP}"),
        (wire.words(wire.SETTINGS, "{"), "Expecting"),
        (wire.text(wire.SETTINGS, {"engine": 1}), "Expected `str`, got `int`"),
    ],
)
def test_a_head_without_settings_is_no_fault_of_the_member_s(sent: bytes, words: str) -> None:
    head, member = socket.socketpair()
    with member:
        with head:
            head.sendall(sent)
        with pytest.raises(BrokeError, match=f"expected the settings of a head .*, found: {words}"):
            worker.receive_settings(member, Decoder())


def test_only_the_token_proves() -> None:
    head_nonce, member_nonce = wire.new_nonce(), wire.new_nonce()
    given = wire.answer("token", 3, head_nonce, member_nonce)
    assert wire.read_greeting(wire.greeting(head_nonce)) == head_nonce
    answer = wire.read_answer(given, "token", head_nonce)
    assert answer is not None and (answer.member, answer.nonce) == (3, member_nonce)
    assert wire.read_answer(given, "other", head_nonce) is None
    assert wire.read_answer(given, "token", wire.new_nonce()) is None, "a replayed answer"
    other_member = given[:8] + (4).to_bytes(4, "little") + given[12:]
    assert wire.read_answer(other_member, "token", head_nonce) is None
    # Neither side's proof is the other's.
    assert wire.head_proof("token", head_nonce, member_nonce) not in given
