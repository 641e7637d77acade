"""What head and members say to each other over TCP: frames of token ids as arrays, or of JSON.

First each proves that it knows the token (`greeting`, `answer`, `head_proof`): fixed numbers of bytes, so
that a stranger's are thrown away unread. Nothing is encrypted: the network between the hosts is trusted with
prompts and answers, not with who may serve.

    SETTINGS  head to member   settings.MemberSettings
    STEP      member to head   what loading has reached, as text
    LOG       member to head   what it and its engine printed, as text
    LOADED    member to head   settings.Loaded
    FAILED    member to head   settings.Failure: while loading or later; the member then ends
    RUN       head to member   what holds for the requests that follow (`Terms`)
    REQUESTS  head to member   n u64 ids, n i32 lengths, i32 tokens
    CALL      head to member   a method of the engine, by its serial number
    REPLY     member to head   what it gave
    BEAT      member to head   every BEAT_S: seconds since the engine's last sign of life
    PING      head to member   every PING_S
    CLOSE     head to member   end
    READINGS  member to head   settings.Readings, behind a beat: how its GPUs run
"""

from __future__ import annotations

import hmac
import json
import secrets
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar

from ...records.codec import from_json
from .. import Limits, Request, Tokens
from ..frames import HEADER, Frame, FrameError, frame, integers

SETTINGS, STEP, LOG, LOADED, FAILED, RUN, REQUESTS, CALL, REPLY, BEAT, PING, CLOSE, READINGS = range(10, 23)
# Between two signs of life.
BEAT_S, PING_S = 1.0, 2.0
# Of one frame: the requests of a whole queue come in several.
MOST_BYTES = 1 << 30
# Version of all this, byte order included: members of another one are turned away.
MAGIC = b"MLPERFL1" if sys.byteorder == "little" else b"1LFREPLM"
NONCE = 32
ANY_MEMBER = -1
T = TypeVar("T")
_GREETING = struct.Struct(f"=8s{NONCE}s")
_ANSWER = struct.Struct(f"=8si{NONCE}s32s")
_BEAT = struct.Struct("=d")
# A frame's header, and what stands before the token ids of its only request.
_ONE_REQUEST = struct.Struct(f"{HEADER.format}Qi")


class Answer(NamedTuple):
    """A member's answer to the greeting."""

    magic: bytes
    member: int
    nonce: bytes
    proof: bytes


GREETING_BYTES, ANSWER_BYTES, PROOF_BYTES = _GREETING.size, _ANSWER.size, 32


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE)


def _proof(token: str, *parts: bytes) -> bytes:
    return hmac.digest(token.encode(), b"".join(parts), "sha256")


def greeting(nonce: bytes) -> bytes:
    return _GREETING.pack(MAGIC, nonce)


def read_greeting(data: bytes) -> bytes:
    """The head's nonce; FrameError where this is no head of ours."""
    magic, nonce = _GREETING.unpack(data)
    if magic != MAGIC:
        raise FrameError("what answers there is no head of this version")
    return bytes(nonce)


def answer(token: str, member: int, head_nonce: bytes, own_nonce: bytes) -> bytes:
    proof = _proof(token, b"member", MAGIC, struct.pack("=i", member), head_nonce, own_nonce)
    return _ANSWER.pack(MAGIC, member, own_nonce, proof)


def read_answer(data: bytes, token: str, head_nonce: bytes) -> Answer | None:
    """None where it does not prove the token."""
    reply = Answer(*_ANSWER.unpack(data))
    wanted = _proof(token, b"member", MAGIC, struct.pack("=i", reply.member), head_nonce, reply.nonce)
    return reply if reply.magic == MAGIC and hmac.compare_digest(reply.proof, wanted) else None


def head_proof(token: str, head_nonce: bytes, member_nonce: bytes) -> bytes:
    """That the head knows the token too: settings from anybody else are not obeyed."""
    return _proof(token, b"head", MAGIC, head_nonce, member_nonce)


@dataclass(frozen=True)
class Terms:
    """What holds for the requests that follow on a connection."""

    limits: Limits
    streaming: bool


def text(kind: int, content: object) -> bytes:
    return frame(kind, 0, json.dumps(content).encode())


def words(kind: int, content: str) -> bytes:
    return frame(kind, 0, content.encode("utf-8", "replace"))


def read_words(received: Frame) -> str:
    return received.payload.decode("utf-8", "replace")


def read_text(received: Frame) -> dict[str, object]:
    content = json.loads(received.payload)
    if not isinstance(content, dict):
        raise FrameError(f"expected an object, found a {type(content).__name__}")
    return content


def record(received: Frame, kind: type[T]) -> T:
    """A dataclass that came as JSON; ValueError where it is another one."""
    return from_json(kind, read_text(received))


def run(terms: Terms) -> bytes:
    return text(RUN, asdict(terms))


def read_run(received: Frame) -> Terms:
    return record(received, Terms)


def requests(batch: Sequence[Request], prompts: Iterable[bytes]) -> bytes:
    """`prompts`: each request's token ids, as `prompt_bytes` gives them."""
    if len(batch) == 1:
        (request,), (prompt,) = batch, prompts
        return _ONE_REQUEST.pack(REQUESTS, 1, 12 + len(prompt), request.id, len(request.prompt)) + prompt
    ids = array("Q", [request.id for request in batch])
    lengths = array("i", [len(request.prompt) for request in batch])
    return frame(REQUESTS, len(batch), ids.tobytes(), lengths.tobytes(), *prompts)


def prompt_bytes(prompt: Tokens) -> bytes:
    return array("i", prompt).tobytes()


def read_requests(received: Frame) -> list[Request]:
    """Requests whose prompts are views of the frame's payload."""
    count = received.entries
    if len(received.payload) % 4:
        raise FrameError(f"expected whole token ids in a frame, found {len(received.payload)} bytes")
    ids = integers("Q", received.payload[: 8 * count])
    lengths = integers("i", received.payload[8 * count : 12 * count])
    tokens = memoryview(received.payload)[12 * count :].cast("i")
    if len(tokens) != sum(lengths):
        raise FrameError(f"expected {sum(lengths)} token ids in a frame, found {len(tokens)}")
    batch, start = [], 0
    for number, length in zip(ids, lengths, strict=True):
        batch.append(Request(number, tokens[start : start + length]))
        start += length
    return batch


def beat(engine_silent_s: float) -> bytes:
    return frame(BEAT, 0, _BEAT.pack(engine_silent_s))


def read_beat(received: Frame) -> float:
    if len(received.payload) != _BEAT.size:
        raise FrameError(f"expected {_BEAT.size} bytes in a beat, found {len(received.payload)}")
    (silent_s,) = _BEAT.unpack(received.payload)
    return float(silent_s)
