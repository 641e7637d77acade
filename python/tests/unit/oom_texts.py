"""What vLLM 0.27.1 and torch log and say when memory does not suffice."""

from __future__ import annotations

LOADING = "(EngineCore pid=7) INFO 11-27 12:00:00 [gpu_model_runner.py:5309] Starting to load model /m...\n"
LOADED = "INFO [gpu_model_runner.py:5406] Model loading took 8.52 GiB memory and 3.120000 seconds\n"
AVAILABLE = "INFO [gpu_worker.py:563] Available KV cache memory: {} GiB\n"
NO_BLOCKS = (
    "ERROR [core.py:1160] ValueError: No available memory for the cache blocks. Try increasing "
    "`gpu_memory_utilization` when initializing the engine (this flag also controls CPU memory reservation "
    "on the CPU backend, despite its name). See https://docs.vllm.ai/en/latest/configuration/"
    "conserving_memory/ for more details.\n"
)
ONE_REQUEST = (
    "ValueError: To serve at least one request with the model's max seq len (2944), ({} GiB KV cache is "
    "needed, which is larger than the available KV cache memory ({} GiB). Based on the available memory, the "
    "estimated maximum model length is 512. Try increasing `gpu_memory_utilization` (which also controls "
    "CPU memory on the CPU backend) or decreasing `max_model_len` when initializing the engine. See https://docs.vllm.ai/en/"
    "latest/configuration/conserving_memory/ for more details.\n"
)
STARTUP = (
    "ValueError: Free memory on device cuda:0 (39.5/79.18 GiB) on startup is less than desired GPU memory "
    "utilization (0.95, 75.22 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
    "processes.\n"
)
CPU_STARTUP = (
    "ValueError: Available memory on node 0 (3.1/7.75 GiB) on startup is less than desired CPU memory "
    "utilization (0.9, 6.97 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the "
    "fraction of CPU memory reserved (despite its name).\n"
)
TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {tried}. GPU 0 has a total capacity of "
    "79.18 GiB of which {free} is free. Including non-PyTorch memory, this process has {own} GiB memory in "
    "use. Of the allocated memory 70.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch "
    "but unallocated. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF="
    "expandable_segments:True to avoid fragmentation.  See documentation for Memory Management\n"
)
FULL = TORCH.format(tried="2.00 GiB", free="512.00 MiB", own="78.62")
FINE = (
    "INFO [gpu_worker.py:767] Free memory on device (78.6/79.18 GiB) on startup. Desired GPU memory "
    "utilization is (0.95, 75.22 GiB). Actual usage is 8.7 GiB for consumed memory (weights + non-torch)\n"
)
VAGUE = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
# Arguments of an engine whose memory did not suffice.
START = {"max_num_seqs": 512, "max_num_batched_tokens": 8192, "gpu_memory_utilization": 0.95}
