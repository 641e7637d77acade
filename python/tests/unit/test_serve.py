"""`serve`: what it refuses, and what vLLM's server is given."""

from __future__ import annotations

import subprocess
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlperf_llama import config
from mlperf_llama.bench import serve
from mlperf_llama.engine import openai_server
from mlperf_llama.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("settings", [{"ENGINE": "fake"}, {"ENGINE": "http://a:1"}, {"HOSTS": "a,b"}])
def test_it_serves_an_engine_of_this_host_alone(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="serve: expected ENGINE=vllm on this host"):
        serve.serve(config.load(settings, {}), {})


@pytest.mark.parametrize("value", ["8000", "127.0.0.1", "127.0.0.1:0", "auto"])
def test_its_address_is_a_host_and_a_port(value: str) -> None:
    with pytest.raises(UsageError, match="serve-address: expected HOST:PORT"):
        config.load({"SERVE_ADDRESS": value}, {})


def test_nobody_else_reaches_it_unless_told() -> None:
    assert config.load({}, {}).serve_address.startswith("127.0.0.1:")


@pytest.mark.parametrize("key", [None, "sesame"])
def test_the_server_has_the_engine_s_arguments(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Namespace] = []

    async def run_server(options: Namespace) -> None:
        given.append(options)

    parser = SimpleNamespace(parse_args=lambda words: Namespace(port=1, enable_prefix_caching=None))
    names = {
        "FlexibleArgumentParser": lambda: None,
        "make_arg_parser": lambda _: parser,
        "run_server": run_server,
    }
    monkeypatch.setattr(openai_server, "compat", SimpleNamespace(**names))
    monkeypatch.setattr(openai_server.VllmEngine, "prepare", lambda self, progress: dict(self._arguments))
    arguments = {"model": "/m", "enable_prefix_caching": False, "skip_tokenizer_init": True}
    openai_server.serve(arguments, tmp_path, {}, ("127.0.0.1", 8000), "llama", key, lambda text: None)
    (options,) = given
    assert (options.host, options.port, options.served_model_name) == ("127.0.0.1", 8000, ["llama"])
    assert (options.model, options.enable_prefix_caching) == ("/m", False)
    # Clients may send text, and the metrics show that nothing is reused.
    assert (options.skip_tokenizer_init, options.disable_log_stats) == (False, False)
    assert options.api_key == ([key] if key else None)


@pytest.mark.parametrize(
    ("address", "health"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("10.0.0.5:80", "10.0.0.5:80"),
    ],
)
def test_in_the_container_it_has_the_host_s_network_and_a_health_check(address: str, health: str) -> None:
    script = (
        f'source "{ROOT}/scripts/lib.sh"; source "{ROOT}/docker/options.sh"; options=(); add_network serve; '
        "printf '%s\\n' \"${options[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "MLPERF_SERVE_ADDRESS": address},
        capture_output=True,
        text=True,
        check=True,
    )
    options = done.stdout.splitlines()
    assert options[:2] == ["--network", "host"]
    assert f'urlopen("http://{health}/health"' in options[options.index("--health-cmd") + 1]


@pytest.mark.parametrize(
    ("words", "env", "shared"),
    [
        ("run", {}, False),
        ("run", {"MLPERF_ENGINE": "fake"}, False),
        ("run", {"MLPERF_ENGINE": "http://localhost:8000"}, True),
        ("run --engine http://localhost:8000", {}, True),
        ("tune --engine=https://gpu1", {}, True),
        ("run --model http://localhost", {}, False),
    ],
)
def test_servers_of_the_host_are_reached_from_the_container(
    words: str, env: dict[str, str], shared: bool
) -> None:
    script = (
        f'source "{ROOT}/scripts/lib.sh"; source "{ROOT}/docker/options.sh"; options=(); '
        f"add_network {words}; printf '%s ' \"${{options[@]}}\""
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == (["--network", "host"] if shared else [])
