"""What servers speak: the path, the request and the answer of each kind.

Sources of the formats: vllm-project/vllm (entrypoints/openai/completion, scale_out/token_in_token_out),
sgl-project/sglang (srt/managers/io_struct.py, tokenizer_manager.py), NVIDIA/TensorRT-LLM
(serve/openai_protocol.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from .. import Limits, Tokens
from .answer import Answer, ServerError, Take

Body = dict[str, object]


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: object = None


class _Meta(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: object = None


class _Generated(msgspec.Struct):
    text: str | None = None
    output_ids: list[int] | None = None
    meta_info: _Meta | None = None
    error: object = None


_COMPLETION = msgspec.json.Decoder(_Completion)
_GENERATED = msgspec.json.Decoder(_Generated)


def take_completion(answer: Answer, data: bytes) -> None:
    """A chunk, or the whole, of OpenAI's completions: each has the ids that are new."""
    message = _COMPLETION.decode(data)
    if message.error is not None:
        raise _reported(message.error)
    for choice in message.choices:
        if choice.token_ids:
            answer.tokens += choice.token_ids
        if choice.prompt_token_ids is not None:
            answer.prompt_ids = choice.prompt_token_ids
        answer.texts += bool(choice.text)
        answer.finished = answer.finished or choice.finish_reason is not None
    if (usage := message.usage) is not None:
        answer.prompt_tokens, answer.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            answer.cached_tokens = usage.prompt_tokens_details.cached_tokens


def take_text(answer: Answer, data: bytes) -> None:
    """The same of a server whose ids are not to be had."""
    take_completion(answer, data)
    answer.tokens.clear()


def take_generated(answer: Answer, data: bytes) -> None:
    """A chunk, or the whole, of SGLang's: all ids so far, or those that are new (incremental streaming). Its
    own count says which."""
    message = _GENERATED.decode(data)
    if message.error is not None:
        raise _reported(message.error)
    ids, meta = message.output_ids or [], message.meta_info or _Meta()
    total = meta.completion_tokens
    if total is None or total == len(ids):
        answer.tokens[:] = ids or answer.tokens
    elif total == len(answer.tokens) + len(ids):
        answer.tokens += ids
    else:
        raise ServerError(f"sent {len(ids)} ids after {len(answer.tokens)} and counts {total} in all")
    answer.texts += bool(message.text)
    answer.finished = answer.finished or meta.finish_reason is not None
    answer.prompt_tokens, answer.completion_tokens = meta.prompt_tokens, total
    answer.cached_tokens = meta.cached_tokens


def _reported(error: object) -> ServerError:
    """An error that stands in an answer of status 200."""
    words = error.get("message", error) if isinstance(error, dict) else error
    return ServerError(f"reports: {' '.join(str(words).split())[:300]}")


def _ending(limits: Limits) -> Body:
    """Where an answer ends other than at its longest."""
    return {"stop_token_ids": limits.stop_ids, "ignore_eos": not limits.stop_ids}


def _streamed(streaming: bool) -> Body:
    """OpenAI's fields of a stream; its last chunk counts the tokens."""
    return {"stream": streaming, **({"stream_options": {"include_usage": True}} if streaming else {})}


def _completions(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": limits.max_new_tokens,
        "min_tokens": limits.min_new_tokens,
        "temperature": 0,
        **_ending(limits),
        **_streamed(streaming),
    }


def _vllm(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    """`stream_interval`: the first token in a chunk of its own, and all others in the last."""
    return {
        **_completions(model, prompt, limits, streaming),
        "return_token_ids": True,
        "stream_interval": limits.max_new_tokens,
    }


def _tensorrt(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    """Ids come in the place of text."""
    return {**_completions(model, prompt, limits, streaming), "top_k": 1, "detokenize": False}


def _plain(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    """Without fields that OpenAI's own API lacks, which some servers refuse."""
    own = ("min_tokens", "stop_token_ids", "ignore_eos")
    return {k: v for k, v in _completions(model, prompt, limits, streaming).items() if k not in own}


def _vllm_tokens(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    parameters = {
        "temperature": 0.0,
        "max_tokens": limits.max_new_tokens,
        "min_tokens": limits.min_new_tokens,
        **_ending(limits),
        "detokenize": False,
        "stream_interval": limits.max_new_tokens,
    }
    return {
        "model": model,
        "token_ids": list(prompt),
        "sampling_params": parameters,
        **_streamed(streaming),
    }


def _sglang(model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> Body:
    parameters = {
        "temperature": 0,
        "max_new_tokens": limits.max_new_tokens,
        "min_new_tokens": limits.min_new_tokens,
        **_ending(limits),
        "stream_interval": limits.max_new_tokens,
    }
    return {"input_ids": list(prompt), "sampling_params": parameters, "stream": streaming}


@dataclass(frozen=True)
class Dialect:
    """`gives_ids`: answers hold token ids; `left_out`: fields of the request that this server refuses."""

    name: str
    path: str
    gives_ids: bool
    build: Callable[[str | None, Tokens, Limits, bool], Body]
    take: Take
    left_out: tuple[str, ...] = ()

    @property
    def software(self) -> str:
        """What speaks it; empty where many do."""
        return self.name.split()[0] if self.gives_ids else ""

    def body(self, model: str | None, prompt: Tokens, limits: Limits, streaming: bool) -> bytes:
        built = self.build(model, prompt, limits, streaming)
        for name in self.left_out:
            built.pop(name, None)
            parameters = built.get("sampling_params")
            if isinstance(parameters, dict):
                parameters.pop(name, None)
        return msgspec.json.encode(built)


SGLANG = Dialect("SGLang /generate", "/generate", True, _sglang, take_generated)
VLLM_TOKENS = Dialect(
    "vLLM /inference/v1/generate", "/inference/v1/generate", True, _vllm_tokens, take_completion
)
VLLM = Dialect("vLLM /v1/completions with token ids", "/v1/completions", True, _vllm, take_completion)
TENSORRT = Dialect(
    "TensorRT-LLM /v1/completions with token ids", "/v1/completions", True, _tensorrt, take_completion
)
TEXT = Dialect("/v1/completions, text alone", "/v1/completions", False, _plain, take_text)
# In the order in which they are tried: what costs the server least first.
ALL = (VLLM_TOKENS, VLLM, SGLANG, TENSORRT, TEXT)
# A field that older versions of a server do not know, and can do without.
OPTIONAL = ("stream_interval",)
