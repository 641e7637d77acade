"""Members on a Ray cluster of one head and three nodes with made-up GPUs: placed, run, lost, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from chaos_members import check_answers
from engine_contract import Collector, requests
from loadgen_support import COMBINATIONS, LIMITS
from replica_support import SCRIPT, run_every_mode

from mlperf_llama import config
from mlperf_llama.engine.replicas import places, ray_cluster
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.places import Placed
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.replicas.settings import MemberSettings
from mlperf_llama.errors import EXIT_BROKE, BrokeError, MissingError, UsageError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (locks/ray.lock)")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLOW: dict[str, object] = {"output_tokens": 20, "ttft_ms": 20, "tpot_ms": 10, "concurrency": 16}


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    )
    for _ in range(3):
        made.add_node(num_cpus=1, num_gpus=1)
    yield made
    made.shutdown()


def settings(**flags: str) -> config.Config:
    return config.load({"ENGINE": "fake", "HOSTS": "ray", **flags}, {"MLPERF_ENV_FILE": "/dev/null"})


def placed(cluster: object, **flags: str) -> Placed:
    """By a loop of its own: a launcher is made before the one that it runs on."""
    env = {"RAY_ADDRESS": cluster.address}  # type: ignore[attr-defined]
    return asyncio.run(places.place(settings(**flags), env))


def engine_of(there: Placed, script: dict[str, object]) -> ReplicaEngine:
    return ReplicaEngine(
        there.members, MemberSettings("fake", script), TokenRouter(), there.launcher, there.listen
    )


def supervisors() -> list[psutil.Process]:
    """Of any run of this machine's: none of this test's may be left, and it alone uses Ray here."""
    below_ray = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            parents = [parent.name() for parent in process.parents()]
        except psutil.Error:
            continue
        if "mlperf_llama.engine.replicas.supervisor" in words and any("ray" in name for name in parents):
            below_ray.append(process)
    return below_ray


def workers() -> dict[int, psutil.Process]:
    """The members' processes by their number."""
    children = [child for supervisor in supervisors() for child in supervisor.children()]
    return {int(child.cmdline()[-1]): child for child in children if "worker" in child.cmdline()}


def test_every_scenario_and_mode(cluster: object, tmp_path: Path) -> None:
    there = placed(cluster)
    assert [member.gpu for member in there.members] == ["0", "0", "0"]

    async def body() -> None:
        engine = engine_of(there, SCRIPT)
        try:
            await engine.start(lambda text: None)
            for category, scenario in COMBINATIONS:
                await run_every_mode(engine, category, scenario, tmp_path / category / scenario)
            await engine.refresh_counters()
            assert all(member.counters["requests"] > 0 for member in engine.members.values())
        finally:
            await engine.close()

    asyncio.run(body())
    assert supervisors() == []
    for category, scenario in COMBINATIONS:
        check_answers(tmp_path / category / scenario / "accuracy", 24)


def kill(cluster: object) -> None:
    workers()[1].send_signal(signal.SIGKILL)


def stop(cluster: object) -> None:
    workers()[1].send_signal(signal.SIGSTOP)


def kill_actor(cluster: object) -> None:
    supervisor = workers()[1].parent()
    assert supervisor is not None
    actor = supervisor.parent()
    assert actor is not None
    actor.kill()


@pytest.mark.parametrize("harm", [kill, stop, kill_actor])
@pytest.mark.parametrize("again", [False, True], ids=["performance", "accuracy"])
def test_a_lost_member(cluster: object, harm: Callable[[object], None], again: bool) -> None:
    there = placed(cluster)

    async def body() -> None:
        engine = engine_of(there, SLOW)
        try:
            await engine.start(lambda text: None)
            await engine.begin_run(redispatch=again)
            sink = Collector(800)
            engine.submit(requests(800), LIMITS, True, sink)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(harm, cluster)
            began = time.monotonic()
            if again:
                await asyncio.wait_for(sink.ended, 60)
                assert sorted(sink.answers) == list(range(800))
                assert [loss.member for loss in engine.take_losses()] == [1]
            else:
                with pytest.raises(BrokeError, match=r"member 1 on .*, GPU 0: ") as failed:
                    await asyncio.wait_for(sink.ended, 60)
                assert failed.value.exit_code == EXIT_BROKE
                assert time.monotonic() - began < 10
        finally:
            await engine.close()

    asyncio.run(body())
    assert supervisors() == []


def test_an_engine_starts_again_on_the_same_launcher(cluster: object) -> None:
    """As after a fault of memory: a new engine, the same members."""
    there = placed(cluster)

    async def body() -> None:
        for _ in range(2):
            engine = engine_of(there, SCRIPT)
            try:
                await engine.start(lambda text: None)
                sink = Collector(50)
                engine.submit(requests(50), LIMITS, False, sink)
                await asyncio.wait_for(sink.ended, 30)
            finally:
                await engine.close()

    asyncio.run(body())
    assert supervisors() == []


def test_some_of_the_gpus(cluster: object) -> None:
    there = placed(cluster, GPUS="2")
    assert [member.index for member in there.members] == [0, 1]
    asyncio.run(there.launcher.stop())


def test_more_gpus_than_there_are(cluster: object) -> None:
    with pytest.raises(MissingError, match="expected 4 GPUs in the cluster, found 3"):
        placed(cluster, GPUS="4")


def test_gpus_that_others_have(cluster: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a run that is under way, as another process sees them."""
    there = placed(cluster)
    monkeypatch.setattr(ray_cluster, "FREE_S", 2.0)
    try:
        import ray

        with pytest.raises(BrokeError, match="expected 3 free GPUs in the cluster, not all were free"):
            ray_cluster.Crew(ray, 3)
    finally:
        asyncio.run(there.launcher.stop())


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"GPUS": "0,2"}, "with HOSTS=ray"), ({"GPUS": "3", "TENSOR_PARALLEL": "2"}, "no multiple")],
)
def test_what_ray_cannot_be_asked(flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asyncio.run(places.place(settings(**flags), {}))


def test_a_member_has_a_group_of_gpus(cluster: object) -> None:
    """Of one node: those of the others, one on each, make no group. The member sees its own alone."""
    node = cluster.add_node(num_cpus=4, num_gpus=5)  # type: ignore[attr-defined]
    try:
        there = placed(cluster, TENSOR_PARALLEL="2")
        assert sorted(str(member.gpu) for member in there.members) == ["0,1", "2,3"]

        async def body() -> None:
            engine = engine_of(there, SCRIPT)
            try:
                await engine.start(lambda text: None)
                seen = {
                    index: worker.environ()["CUDA_VISIBLE_DEVICES"] for index, worker in workers().items()
                }
                assert seen == {member.index: member.gpu for member in there.members}
                sink = Collector(50)
                engine.submit(requests(50), LIMITS, False, sink)
                await asyncio.wait_for(sink.ended, 30)
            finally:
                await engine.close()

        asyncio.run(body())
        with pytest.raises(
            MissingError, match="expected 3 groups of 2 GPUs on one node in the cluster, found 2"
        ):
            placed(cluster, TENSOR_PARALLEL="2", GPUS="6")
    finally:
        cluster.remove_node(node)  # type: ignore[attr-defined]


def test_no_cluster_there() -> None:
    env = {"RAY_ADDRESS": "127.0.0.1:9"}
    with pytest.raises((MissingError, BrokeError), match=r"RAY_ADDRESS=127\.0\.0\.1:9|Ray has not answered"):
        asyncio.run(places.place(settings(), env))
