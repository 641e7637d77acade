"""Which member serves which request. No clock, no socket: what it is told decides what it answers.

Two ways, one for each kind of load:

push (`assign`)  Requests arrive one by one under latency limits. Each goes to the member whose backlog is
                 worked off first: the work of all that it has not answered, and BEGIN_WEIGHT times that of
                 the requests whose first token has not come, over its measured rate. A prompt that waits
                 delays every later first token, one in decode hardly does: hence the weight.
pull (`pull`)    All requests are there at once. They stay in one queue, in the order in which they were
                 queued, and a member takes more whenever it holds less than ROUNDS rounds of its seats: one
                 in the engine, one ready to follow. Near the end no member takes more than its share of all
                 that is unfinished, so that unlike members end together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import Request

# benchmarks/routing.py: all weights from 8 up are as good with members alike; with unlike ones the TTFT falls
# further, and the slower members' TPOT rises.
BEGIN_WEIGHT = 32
ROUNDS = 2
# What the 128 tokens of an answer cost beside its prompt's. An H100 answers 65.8 requests of about 870 tokens
# in a second (benchmarks/RESULTS.md), and a prompt token takes about 11 us of that.
ANSWER_TOKENS = 512
# A run has fewer requests than these bits count.
TAKEN_BITS = 24


def cost(request: Request) -> int:
    """A request's work, in prompt tokens."""
    return len(request.prompt) + ANSWER_TOKENS


@dataclass(slots=True)
class _Member:
    """`held`: the work of what it has not answered; `backlog`: the same with the weight of what has not
    begun; `taken`: requests ever assigned; `pulled`, `pulled_tokens`: answered since the queue began."""

    rate: float
    seats: int
    weight: int
    slot: int
    requests: dict[int, Request] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    backlog: int = 0
    held: int = 0
    taken: int = 0
    pulled: int = 0
    pulled_tokens: int = 0

    def take(self, request: Request) -> None:
        tokens = cost(request)
        self.requests[request.id] = request
        self.waiting.add(request.id)
        self.backlog += (1 + self.weight) * tokens
        self.held += tokens
        self.taken += 1

    def begin(self, request_id: int) -> None:
        self.waiting.remove(request_id)
        self.backlog -= self.weight * cost(self.requests[request_id])

    def end(self, request_id: int) -> None:
        tokens = cost(self.requests.pop(request_id))
        self.backlog -= tokens
        self.held -= tokens
        self.pulled += 1
        self.pulled_tokens += tokens


class TokenRouter:
    """Members, the requests that each holds, and the queue of those that none holds yet."""

    def __init__(self, begin_weight: int = BEGIN_WEIGHT) -> None:
        self._weight = begin_weight
        self._members: dict[int, _Member] = {}
        # By slot: the members' numbers, and what the smallest of which tells the member to choose while all
        # have one rate: the backlog, and below it how often it was chosen.
        self._numbers: list[int] = []
        self._keys: list[int] = []
        self._alike = True
        self._queue: deque[Request] = deque()
        self._queued = 0

    def add(self, member: int, rate_tokens_s: float, seats: int) -> None:
        """A member that serves from now on, or a member's new rate and seats; it keeps what it holds.
        `rate_tokens_s`: measured; only the ratios between members count."""
        if rate_tokens_s <= 0 or seats < 1:
            raise ValueError(
                f"member {member}: expected a rate above 0 and a seat, found {rate_tokens_s}, {seats}"
            )
        known = self._members.get(member)
        if known is None:
            self._members[member] = _Member(rate_tokens_s, seats, self._weight, 0)
        else:
            known.rate, known.seats = rate_tokens_s, seats
        self._number()

    def remove(self, member: int) -> None:
        """A member that serves no more: what it held is forgotten."""
        self._members.pop(member, None)
        self._number()

    def clear(self) -> None:
        """Forget every request; the members stay."""
        self._queue.clear()
        self._queued = 0
        for number, member in self._members.items():
            self._members[number] = _Member(member.rate, member.seats, self._weight, 0)
        self._number()

    def _number(self) -> None:
        """After a change of the members."""
        members = self._members.values()
        self._numbers = list(self._members)
        self._alike = len({member.rate for member in members}) < 2
        self._keys = [0] * len(members)
        for slot, member in enumerate(members):
            member.slot = slot
            self._note(member)

    def _note(self, member: _Member) -> None:
        """After a change of what a member holds."""
        self._keys[member.slot] = (member.backlog << TAKEN_BITS) + member.taken

    def assign(self, requests: Sequence[Request]) -> dict[int, list[Request]]:
        """Each request's member, for requests that arrive under latency limits."""
        batches: dict[int, list[Request]] = {}
        for request in requests:
            member = self._first_free((1 + self._weight) * cost(request))
            chosen = self._members[member]
            chosen.take(request)
            self._note(chosen)
            batches.setdefault(member, []).append(request)
        return batches

    def _first_free(self, tokens: int) -> int:
        """The member that is through with its backlog and `tokens` more first; of equals, the least used."""
        if self._alike and self._keys:
            return self._numbers[self._keys.index(min(self._keys))]
        chosen, best, taken = -1, float("inf"), 0
        for number, member in self._members.items():
            end = (member.backlog + tokens) / member.rate
            if end < best or (end == best and member.taken < taken):
                chosen, best, taken = number, end, member.taken
        if chosen < 0:
            raise ValueError("expected a member that serves, found none")
        return chosen

    def queue(self, requests: Sequence[Request]) -> None:
        """Put requests at the queue's end, in the order of submission."""
        if not self._queue and not any(member.requests for member in self._members.values()):
            for member in self._members.values():
                member.pulled = member.pulled_tokens = 0
        self._queue.extend(requests)
        self._queued += sum(map(cost, requests))

    def pull(self, member: int, n: int) -> list[Request]:
        """What a member takes from the queue now, at most `n`. Ask again whenever it has answered something:
        a member that holds nothing always gets a request while there is one."""
        puller = self._members[member]
        room = min(n, ROUNDS * puller.seats - len(puller.requests))
        share = self._share(puller)
        unfinished = self._queued + sum(other.held for other in self._members.values())
        taken: list[Request] = []
        while self._queue and len(taken) < room:
            tokens = cost(self._queue[0])
            if puller.requests and puller.held + tokens > share * unfinished:
                break
            request = self._queue.popleft()
            self._queued -= tokens
            puller.take(request)
            taken.append(request)
        self._note(puller)
        return taken

    def _share(self, puller: _Member) -> float:
        """A member's part of the work, by what each has answered since the queue began; before every member
        has answered as much as it may hold, by the measured rates."""
        members = self._members.values()
        if all(member.pulled >= ROUNDS * member.seats for member in members):
            return puller.pulled_tokens / sum(member.pulled_tokens for member in members)
        return puller.rate / sum(member.rate for member in members)

    def begun(self, member: int, request_id: int) -> None:
        """A request's first token came. Like `done` without effect where the member does not hold it."""
        holder = self._members.get(member)
        if holder is not None and request_id in holder.waiting:
            holder.begin(request_id)
            self._note(holder)

    def done(self, member: int, request_id: int) -> None:
        """A member has answered a request."""
        holder = self._members.get(member)
        if holder is not None and request_id in holder.requests:
            if request_id in holder.waiting:
                holder.begin(request_id)
            holder.end(request_id)
            self._note(holder)
