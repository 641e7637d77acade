"""Requests under way: whose they are, which member has each, and what its answers become.

Where latency counts (streaming) each request goes at once to the member that the router names; without, they
wait in one queue and members pull. Nothing here formats text, logs or touches the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from .. import Request, Sink, Tokens
from . import wire
from .member import Member
from .protocol import Router

# Sequences in one batch, where an engine has no limit that it tells.
DEFAULT_SEATS = 1024
# Rates that differ by less are noise, and so are those of fewer requests.
RATE_NOISE, RATE_REQUESTS = 0.1, 32


@dataclass(frozen=True, eq=False)
class Job:
    """What holds for the requests of one `submit`."""

    terms: wire.Terms
    sink: Sink


class Dispatch:
    """Between sinks and members. A request is in `_jobs` until it is answered."""

    def __init__(self, router: Router, members: Mapping[int, Member]) -> None:
        self._router, self._members = router, members
        self._jobs: dict[int, Job] = {}
        self._terms: wire.Terms | None = None
        self._waiting = 0
        self._redispatch = False
        # First tokens that were passed on, and requests that went to a second member.
        self._begun: set[int] = set()
        self._again: set[int] = set()

    def begin_run(self, redispatch: bool) -> None:
        """`redispatch`: a first token may come twice, from a second member."""
        self._redispatch = redispatch
        self._begun.clear()
        self._again.clear()

    def knows(self, requests: Sequence[Request]) -> bool:
        """Whether one of these ids is under way."""
        return not self._jobs.keys().isdisjoint(request.id for request in requests)

    def submit(self, requests: Sequence[Request], terms: wire.Terms, sink: Sink) -> None:
        # One object while it holds, so that it is told by identity.
        self._terms = self._terms if terms == self._terms else terms
        job = Job(self._terms, sink)
        jobs = self._jobs
        for request in requests:
            jobs[request.id] = job
        self._route(requests, self._terms)

    def _route(self, requests: Sequence[Request], terms: wire.Terms) -> None:
        if terms.streaming:
            for index, batch in self._router.assign(requests).items():
                self._members[index].send(batch, terms)
            return
        self._router.queue(requests)
        self._waiting += len(requests)
        for member in self._members.values():
            if not (member.gone or member.idle):
                self._feed(member)

    def _feed(self, member: Member) -> None:
        batch = self._router.pull(member.index, self._waiting)
        if batch:
            self._waiting -= len(batch)
            for terms, part in groupby(batch, key=self._terms_of):
                member.send(list(part), terms)

    def _terms_of(self, request: Request) -> wire.Terms:
        return self._jobs[request.id].terms

    def first_tokens(self, member: Member, ids: Sequence[int], tokens: Sequence[int]) -> int | None:
        """Pass them on; the id of one that the member has no right to send."""
        jobs, begun, begin, index = self._jobs, self._begun, self._router.begun, member.index
        for number, token in zip(ids, tokens, strict=True):
            if number not in member.requests:
                return number
            begin(index, number)
            if self._redispatch:
                if number in begun:
                    continue
                begun.add(number)
            jobs[number].sink.first_token(number, token)
        return None

    def completions(
        self, member: Member, ids: Sequence[int], lengths: Sequence[int], tokens: Tokens
    ) -> int | None:
        """Pass them on, and give the member more; the id of one that it has no right to send."""
        jobs, held, done, index = self._jobs, member.requests, self._router.done, member.index
        start = answered = 0
        for number, length in zip(ids, lengths, strict=True):
            request = held.pop(number, None)
            if request is None:
                return number
            end = start + length
            done(index, number)
            answered += len(request.prompt)
            jobs.pop(number).sink.completed(number, tokens[start:end])
            start = end
        member.answered += len(ids)
        member.answered_tokens += answered
        member.ended = member.heard
        if self._waiting:
            self._feed(member)
        return None

    # Members lost

    def were_again(self, member: Member) -> bool:
        """Whether what it holds went to a second member before."""
        return not self._again.isdisjoint(member.requests)

    def again(self, member: Member) -> None:
        """What a lost member had goes to the others."""
        self._router.remove(member.index)
        requests = list(member.requests.values())
        self._again.update(member.requests)
        member.requests.clear()
        for terms, part in groupby(requests, key=self._terms_of):
            self._route(list(part), terms)

    def fail(self, error: Exception) -> None:
        """Nothing more will come."""
        sinks = {id(job.sink): job.sink for job in self._jobs.values()}
        self.drop()
        for sink in sinks.values():
            sink.failed(error)

    def drop(self) -> None:
        self._jobs.clear()
        self._router.clear()
        self._waiting = 0


def measured_rates(members: Sequence[Member]) -> dict[int, float]:
    """Prompt tokens per second of each member so far; none where they hardly differ, or little is known."""
    rates = {
        member.index: member.answered_tokens / (member.ended - member.began)
        for member in members
        if member.began is not None and member.ended > member.began and member.answered >= RATE_REQUESTS
    }
    if len(rates) < len(members) or max(rates.values()) < (1 + RATE_NOISE) * min(rates.values()):
        return {}
    return rates


def seats_of(member: Member) -> int:
    """Sequences in one batch, as its engine was loaded."""
    settings = member.report.info.settings if member.report else {}
    seats = settings.get("max_num_seqs", settings.get("concurrency"))
    return int(seats) if isinstance(seats, int | float) else DEFAULT_SEATS
