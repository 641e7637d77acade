"""Environment variables that libraries read: recorded by name and value, judged by a list.

A variable that is recorded and in no list is named as one that may change a result: it is unset, or its
effect is known and it is added here.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping

from ...credentials import SECRET_NAMES
from ...credentials.redaction import FOREIGN, MASK

# What is recorded: names that the interpreter, the loader, CUDA, vLLM, PyTorch and their libraries read.
_RECORDED = re.compile(
    r"""
    (AITER|AOT_INDUCTOR|AOTI|AOTINDUCTOR|ATEN|CUBLAS|CUBLASLT|CUDA|CUDNN|CUTE|CUTE_DSL|CUTEDSL|CUTLASS|DG|DNNL|DYLD|FLA|FLASHINFER|FLASH|GLIBC|GOMP|HF|HUGGINGFACE|INDUCTOR|KMP|LD
    |LMCACHE|MALLOC|MKL|MLC|MLPERF_LLAMA|NCCL|NUMEXPR|NVCC|NVIDIA|NVSHMEM|NVTE|OMP|ONEDNN|OPENBLAS|OPENSSL|PYTORCH|QUACK|R2|RAY|SAFETENSORS
    |SSL_CERT|TOKENIZERS|TORCH|TRANSFORMERS|TRITON|TVM|VLLM|XLA)_.*
    | (PYTHON|TORCHDYNAMO|TORCHINDUCTOR|FAKETIME|_TORCHINDUCTOR).* | TZ
    | [QKV]_SCALE_CONSTANT | FORCE_NUM_KV_SPLITS | ENABLE_(PERSISTENT|TEMPLATE|TMA)_.* | TRUST_REMOTE_CODE
    | USE_(HUB_KERNELS|FLAGOS) | CUDACXX
    | CC | CXX | CPATH | C_INCLUDE_PATH | CPLUS_INCLUDE_PATH | LIBRARY_PATH | GCONV_PATH | PATH
    | VIRTUAL_ENV | DO_NOT_TRACK | LC_ALL | LANG | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE
    """,
    re.VERBOSE,
)
_PROXY = re.compile(r"(HTTPS?|ALL|NO|FTP)_PROXY", re.IGNORECASE)
# Starts and whole names that change where things lie, how much is logged, how threads and memory are shared
# out, or which GPUs and links are used.
_HARMLESS = re.compile(
    r"""
    [A-Z0-9_]+_VERSION | CUBLAS_WORKSPACE_CONFIG | CUDA_(VISIBLE_DEVICES|DEVICE_ORDER
    |MODULE_LOADING|DEVICE_MAX_CONNECTIONS|CACHE_(PATH|DISABLE|MAXSIZE)|LAUNCH_BLOCKING
    |PYTHON_.*) | DO_NOT_TRACK
    | FLASHINFER_(WORKSPACE_BASE|LOGGING_LEVEL|CUDA_ARCH_LIST) | HF_.* | HUGGINGFACE_.* | KMP_.* | LANG
    | LC_ALL | MALLOC_.* | GLIBC_TUNABLES | MKL_(NUM_THREADS|DYNAMIC|THREADING_LAYER) | MLC_.*
    | MLPERF_LLAMA_(SCALES|KERNEL_CACHE)
    | NCCL_(?!.*PLUGIN|CONF_FILE).* | NUMEXPR_.* | NVSHMEM_(?!LIB_DIR).*
    | NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_.*|.*VERSION
    |PRODUCT_NAME|BUILD_.*) | OMP_(?!TOOL_LIBRARIES).* | GOMP_.* | OPENBLAS_NUM_THREADS
    | PATH
    | PYTHON(PATH|SAFEPATH|NOUSERSITE|UNBUFFERED|DONTWRITEBYTECODE|HASHSEED|UTF8|IOENCODING|FAULTHANDLER
    |BREAKPOINT|INSPECT|_.*) | PYTORCH_(CUDA_)?ALLOC_CONF | PYTORCH_(BUILD_.*|HOME
    |NVML_BASED_CUDA_CHECK)
    | R2_.* | RAY_(?!RUNTIME_ENV_HOOK).* | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | SSL_CERT_(FILE|DIR)
    | TOKENIZERS_PARALLELISM
    | TORCHINDUCTOR_(CACHE_DIR|COMPILE_THREADS|FX_GRAPH_CACHE) | TORCH_(CUDA_ARCH_LIST|LOGS|HOME|NCCL_.*
    |EXTENSIONS_DIR|CPP_LOG_LEVEL) | TRANSFORMERS_(CACHE|OFFLINE|VERBOSITY|NO_ADVISORY_WARNINGS)
    | TRITON_(CACHE_DIR|HOME) | TZ | VIRTUAL_ENV
    | VLLM_(CACHE_ROOT|CONFIG_ROOT|ASSETS_CACHE|CONFIGURE_LOGGING|LOGGING_(LEVEL|COLOR|PREFIX|STREAM)
    |LOG_(STATS_INTERVAL|BATCHSIZE_INTERVAL|MODEL_INSPECTION)|DISABLE_LOG_LOGO|NO_USAGE_STATS|DO_NOT_TRACK
    |USAGE_(SOURCE|STATS_SERVER)|CPU_(KVCACHE_SPACE|OMP_THREADS_BIND|NUM_OF_RESERVED_CPU|SGL_KERNEL)
    |WORKER_MULTIPROC_METHOD|ENABLE_V1_MULTIPROCESSING|USE_FLASHINFER_SAMPLER|HOST_IP|LOOPBACK_IP|PORT
    |RPC_BASE_PATH|DP_.*|ENGINE_(ITERATION|READY)_TIMEOUT_S|EXECUTE_MODEL_TIMEOUT_SECONDS
    |WORKER_SHUTDOWN_TIMEOUT_SECONDS|SKIP_P2P_CHECK|KEEP_ALIVE_ON_ENGINE_DEATH|RINGBUFFER_WARNING_INTERVAL
    |MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS|DISABLE_COMPILE_CACHE|TARGET_DEVICE|PROCESS_NAME_PREFIX|V1_OUTPUT_PROC_CHUNK_SIZE
    |IMAGE_TAG|BUILD_.*|DOCKER_.*|MAIN_CUDA_VERSION|NCCL_INCLUDE_PATH|ENABLE_CUDAGRAPH_GC|ENABLE_STARTUP_PLAN)
    """,
    re.VERBOSE,
)
# What brings in libraries or compilers (the loader splits at : and at ;): good where it names those of the
# system, which an administrator filled, or of the environment.
_PLACES = re.compile(
    r"""
    LD_LIBRARY_PATH | LIBRARY_PATH | CPATH | C(PLUS)?_INCLUDE_PATH | CC | CXX | CUDA_(HOME|PATH|ROOT)
    | OPENSSL_CONF | TRITON_(PTXAS_PATH|LIBCUDA_PATH)
    """,
    re.VERBOSE,
)
_COMPILERS = re.compile(r"(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-\d+)?")
_SYSTEM_FOLDERS = ("/usr/", "/lib/", "/lib64/", "/etc/", "/opt/")


def relevant(env: Mapping[str, str]) -> dict[str, str]:
    """The variables to record, by name; of a secret only that it is set."""
    return {
        name: MASK if name in SECRET_NAMES or FOREIGN.search(name.upper()) else value
        for name, value in sorted(env.items())
        if _RECORDED.fullmatch(name) or _PROXY.fullmatch(name)
    }


def faults(variables: Mapping[str, str], prefix: str = "") -> list[str]:
    """Those that may change a result or bring in foreign code. `prefix`: the folder of the environment."""
    return [
        f"{name}={value}" for name, value in variables.items() if value and not _known(name, value, prefix)
    ]


def _known(name: str, value: str, prefix: str) -> bool:
    if _PLACES.fullmatch(name):
        places = [place for place in re.split("[:;]", value) if place]
        own = (*_SYSTEM_FOLDERS, *((f"{prefix}/",) if prefix else ()))
        return all(
            f"{os.path.normpath(place)}/".startswith(own) or _COMPILERS.fullmatch(place) for place in places
        )
    return bool(_HARMLESS.fullmatch(name) or _PROXY.fullmatch(name))
