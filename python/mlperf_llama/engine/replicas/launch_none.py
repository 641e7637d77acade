"""Members that others start, by hand, by Compose or by Kubernetes: the verb `worker` with the run's token."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from .protocol import HeadAddress, MemberSpec

log = logging.getLogger(__name__)


class NoLauncher:
    """See protocol.Launcher. A member ends by itself when its head is gone."""

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        words = "waiting for %d members: mlperf-llama worker --head %s:%d"
        log.warning(words, len(members), head.host, head.port)

    def failures(self) -> Mapping[int, str]:
        return {}

    async def stop(self) -> None:
        return
