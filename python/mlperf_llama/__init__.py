"""MLPerf Inference for Llama-3.1-8B: vLLM, LoadGen and ROUGE in one pipeline."""

__version__ = "0.1.0"
