"""What a server is and what can be proved of it, found out once, before anything is timed.

The prompts are made up. Two equal ones, one after the other, must be answered alike (greedy), by as many
tokens as were asked for, and the second must reuse nothing of the first (prefix cache).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TypeVar

from ...errors import BrokeError, MissingError
from ...records.schema import ProbedServer
from .. import Limits, Tokens
from . import about, dialects
from .about import About
from .answer import Answer, First, ServerError, ServerLostError
from .client import Client
from .dialects import Dialect

T = TypeVar("T")
# More than one block of every server's KV cache (vLLM on a CPU: 128 tokens): a cache has what to reuse.
PROMPT_TOKENS = 600
_SHORT = Limits(4, 4, ())
_NO_ACCESS = (401, 403)
_ABSENT = (404, 405)


@dataclass(frozen=True)
class Server:
    """A server that can be asked: how, and what is known of it."""

    client: Client
    dialect: Dialect
    probed: ProbedServer


async def probe(client: Client, limits: Limits, vocabulary: int, seed: int, within_s: float) -> Server:
    """MissingError: no such server, no access, or nothing that can be measured. BrokeError: what it answers
    is no answer. `limits`: those of the longest answer; `within_s`: for each request."""
    draw = random.Random(seed)
    prompt = [draw.randrange(min(1000, vocabulary // 2), vocabulary) for _ in range(PROMPT_TOKENS)]
    examination = _Examination(client, limits, vocabulary, within_s)
    try:
        return await examination.run(prompt)
    except ServerLostError as error:
        raise MissingError(f"ENGINE: {error}; start the server, or correct its address") from None
    except ServerError as error:
        if error.status in _NO_ACCESS:
            raise MissingError(f"ENGINE: {error}; set ENDPOINT_API_KEY to the server's key") from None
        raise BrokeError(f"ENGINE: {error}") from None


@dataclass(frozen=True)
class _Examination:
    client: Client
    limits: Limits
    vocabulary: int
    within_s: float

    async def run(self, prompt: Tokens) -> Server:
        known = await self._in_time(about.read(self.client))
        dialect = await self._choose(known, prompt[:8])
        hits = await self._in_time(about.prefix_cache(self.client))
        begun: list[int] = []
        first = await self._ask(
            dialect, known, prompt, self.limits, lambda answer: begun.append(len(answer.tokens))
        )
        second = await self._ask(dialect, known, prompt, self.limits)
        hits_after = await self._in_time(about.prefix_cache(self.client))
        answers = (first, second)
        for answer in answers:
            self._check_ids(answer)
        if not dialect.gives_ids and None in (first.completion_tokens, second.completion_tokens):
            raise MissingError(
                f"ENGINE: {self.client.address}: expected token ids, or a count of them in `usage`, "
                "found text alone"
            )
        cache, cache_shown_by = about.reuses(known, hits, hits_after, second.cached_tokens)
        probed = ProbedServer(
            address=self.client.address,
            software=dialect.software or "unknown server",
            dialect=dialect.name,
            version=known.version,
            model=known.model,
            max_model_len=known.max_model_len,
            ids_in=_ids_in(prompt, answers),
            ids_out=dialect.gives_ids and all(_counted(answer) for answer in answers),
            limit_tokens=self.limits.max_new_tokens,
            most_tokens=max(_length(answer) for answer in answers),
            greedy=first.tokens == second.tokens if dialect.gives_ids else None,
            prefix_cache=cache,
            prefix_cache_shown_by=cache_shown_by,
            streams=begun[0] < len(first.tokens) if dialect.gives_ids and begun else None,
        )
        return Server(self.client, dialect, probed)

    async def _choose(self, known: About, prompt: Tokens) -> Dialect:
        """The first dialect that the server answers in."""
        refusals: list[ServerError] = []
        for dialect in dialects.ALL:
            for variant in (dialect, replace(dialect, left_out=dialects.OPTIONAL)):
                try:
                    answer = await self._ask(variant, known, prompt, _SHORT)
                except ServerLostError:
                    raise
                except ServerError as error:
                    if error.status in _NO_ACCESS:
                        raise
                    refusals.append(error)
                    if error.status in _ABSENT:
                        break
                    continue
                if answer.tokens or not variant.gives_ids:
                    self._check_ids(answer)
                    return variant
                break
        telling = [error for error in refusals if error.status not in _ABSENT] or refusals
        if telling and telling[0].status not in _ABSENT:
            raise telling[0]
        raise MissingError(
            f"ENGINE: {self.client.address}: expected a server of vLLM, SGLang, TensorRT-LLM or OpenAI's "
            f"completions, found none of their paths ({', '.join(sorted({d.path for d in dialects.ALL}))})"
        )

    async def _ask(
        self,
        dialect: Dialect,
        known: About,
        prompt: Tokens,
        limits: Limits,
        first: First | None = None,
    ) -> Answer:
        """One answer, streamed where `first` wants to know."""
        streaming = first is not None
        body = dialect.body(known.model, prompt, limits, streaming)
        return await self._in_time(self.client.ask(dialect, body, streaming, first or (lambda _: None)))

    def _check_ids(self, answer: Answer) -> None:
        check_ids(self.client.address, answer.tokens, self.vocabulary)

    async def _in_time(self, work: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(self.within_s):
                return await work
        except TimeoutError:
            raise ServerLostError(f"{self.client.address}: no answer within {self.within_s:g} s") from None


def check_ids(address: str, tokens: Tokens, vocabulary: int) -> None:
    """ServerError where one is no id of the model's."""
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocabulary):
        wrong = next(token for token in tokens if not 0 <= token < vocabulary)
        raise ServerError(f"{address}: expected token ids from 0 to {vocabulary - 1}, found {wrong}")


def echoes(prompt: Tokens, answer: Answer) -> bool | None:
    """Whether the server was given these very ids, by what it says of them; None where it says nothing."""
    if answer.prompt_ids is not None:
        return answer.prompt_ids == list(prompt)
    return None if answer.prompt_tokens is None else answer.prompt_tokens == len(prompt)


def _ids_in(prompt: Tokens, answers: tuple[Answer, ...]) -> bool | None:
    shown = [echoed for answer in answers if (echoed := echoes(prompt, answer)) is not None]
    return all(shown) if shown else None


def _counted(answer: Answer) -> bool:
    """The server counts as many tokens as it sends."""
    return answer.completion_tokens in (None, len(answer.tokens))


def _length(answer: Answer) -> int:
    return max(len(answer.tokens), answer.completion_tokens or 0)
