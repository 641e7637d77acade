"""HOSTS and HEAD_ADDRESS: which members there are, on which hosts, and where they find the head."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.engine.replicas import places
from mlperf_llama.engine.replicas.launch_none import NoLauncher
from mlperf_llama.engine.replicas.protocol import UNKNOWN_HOST, Listen
from mlperf_llama.errors import BrokeError, MissingError, PipelineError, UsageError
from mlperf_llama.records.schema import Gpu, System

A100 = Gpu(0, "NVIDIA A100-SXM4-80GB", "GPU-a1", 80.0, source="nvml")
NOWHERE = {"MLPERF_ENV_FILE": "/dev/null"}


def settings(**flags: str) -> config.Config:
    return config.load(flags, NOWHERE)


def system(count: int) -> System:
    return System(gpus=tuple(replace(A100, index=index) for index in range(count)))


@pytest.mark.parametrize("text", ["a,,b", "a,a", "-oProxyCommand=x", "a;b", "a b", "$(x)", ",", "a/b"])
def test_no_host_name(text: str) -> None:
    with pytest.raises(UsageError, match="hosts: expected nothing, ray, slurm, join, or names of hosts"):
        settings(HOSTS=text)


def test_host_names() -> None:
    assert settings(HOSTS="node-1, me@node-2.cluster").hosts == "node-1,me@node-2.cluster"
    assert settings().hosts == ""


@pytest.mark.parametrize("text", ["a:b", "a:0", "a:65536", ":80", "a b", "-x"])
def test_no_head_address(text: str) -> None:
    with pytest.raises(UsageError, match="head-address: expected HOST"):
        settings(HEAD_ADDRESS=text)


def test_members_are_numbered_through_the_hosts() -> None:
    gpus_of = {"a": system(2).gpus, "b": system(1).gpus}
    members = places.members_on(settings(), gpus_of)
    assert [(m.index, m.host, m.gpu) for m in members] == [(0, "a", "0"), (1, "a", "1"), (2, "b", "0")]
    assert members[1].name == "member 1 on a, GPU 1"


def test_gpus_holds_for_each_host() -> None:
    assert len(places.used(settings(GPUS="2"), "a", system(4)).gpus) == 2
    with pytest.raises(MissingError, match=r"^b: GPUS: expected 2 GPUs, found 1"):
        places.used(settings(GPUS="2"), "b", system(1))
    with pytest.raises(
        MissingError, match=r"^c: expected a GPU, found none that answers: it fell off the bus"
    ):
        places.used(settings(), "c", System(gpu_failure="it fell off the bus"))


def test_where_the_head_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {None: "192.0.2.1", "node": "127.0.0.1", "10.0.0.7": "10.0.0.1"}
    monkeypatch.setattr(places, "own_address", lambda towards=None: routes[towards])
    assert places.listen("gate:4000", "node") == Listen("0.0.0.0", "gate", 4000)
    assert places.listen("gate", "node") == Listen("0.0.0.0", "gate", 0)
    assert places.listen(None, "10.0.0.7") == Listen("0.0.0.0", "10.0.0.1", 0)
    # A name that only ssh knows leads nowhere.
    assert places.listen(None, "node") == Listen("0.0.0.0", "192.0.2.1", 0)


def test_the_head_of_a_local_ray_listens_on_loopback_alone() -> None:
    assert places.listen(None, "localhost") == Listen("127.0.0.1", "127.0.0.1", 0)


JOIN = {"HOSTS": "join", "GPUS": "3", "HEAD_ADDRESS": "head:4000"}
TOKEN = {"REPLICAS_TOKEN": "t0ken"}


def test_who_joins() -> None:
    there = places.joining(settings(**JOIN), TOKEN, [A100])
    assert isinstance(there.launcher, NoLauncher)
    assert [member.host for member in there.members] == [UNKNOWN_HOST] * 3
    assert (there.token, there.gpus, there.listen.port) == ("t0ken", (A100,) * 3, 4000)


@pytest.mark.parametrize(
    ("flags", "env", "error", "message"),
    [
        ({"GPUS": "all"}, TOKEN, UsageError, "GPUS: expected how many"),
        ({"GPUS": "0,1"}, TOKEN, UsageError, "GPUS: expected how many"),
        ({"HEAD_ADDRESS": "head"}, TOKEN, UsageError, "HEAD_ADDRESS: expected HOST:PORT with HOSTS=join"),
        ({}, {}, MissingError, "expected the members' token"),
    ],
)
def test_who_cannot_join(
    flags: dict[str, str], env: dict[str, str], error: type[PipelineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        places.joining(settings(**{**JOIN, **flags}), env, [A100])


def test_a_gpu_here_decides_the_members_settings() -> None:
    with pytest.raises(MissingError, match="expected a GPU here too"):
        places.joining(settings(**JOIN), TOKEN, [])
    assert places.joining(settings(**JOIN), {**TOKEN, "MLPERF_TARGET": "cpu"}, []).gpus == ()


def test_slurm_needs_an_allocation() -> None:
    with pytest.raises(UsageError, match="inside an allocation"):
        asyncio.run(places.place(settings(HOSTS="slurm"), {}))


def stub(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_an_allocation_s_hosts_are_asked_through_srun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, "scontrol", '[ "$*" = "show hostnames n[1-2]" ] && printf "n1\\nn2\\n"')
    stub(tmp_path, "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    env = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}
    there = asyncio.run(places.place(settings(HOSTS="slurm", ENGINE="fake", GPUS="2"), env))
    assert [(m.host, m.gpu) for m in there.members] == [("n1", "0"), ("n1", "1"), ("n2", "0"), ("n2", "1")]
    assert there.hosts["n2"].cpu.usable_threads


def test_a_host_that_refuses_is_named_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, "ssh", "echo 'Permission denied (publickey).' >&2; exit 255")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    words = r"n1: expected it to say which GPUs it has, it ended with code 255: Permission denied"
    with pytest.raises(BrokeError, match=words):
        asyncio.run(places.place(settings(HOSTS="n1"), env))
