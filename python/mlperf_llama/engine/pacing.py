"""When the prompts that wait may enter a step: not directly behind one with prompts.

A few large mixed steps use a GPU better than many small ones, and a prompt that is not split
over steps need not read the cache. What TTFT can spare, TPOT gains.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pacing:
    """`whole_prompts`: no prompt is split over steps. `gap_steps`: at least so many
    decode-only steps behind one with prompts."""

    whole_prompts: bool = False
    gap_steps: int = 0

    def holds(self, running: int, since_prompts: int) -> bool:
        """Whether no prompt should enter this step.

        `running`: sequences in decode. `since_prompts`: decode-only steps behind the last one
        with prompts.
        """
        return running > 0 and since_prompts < self.gap_steps
