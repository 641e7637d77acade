"""The steps of the self-check and its figures, without a model."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from mlperf_llama.engine.hopper import steps

pytestmark = pytest.mark.slow

PAGE = 16


def test_steps_hold_whole_prompts_chunks_and_answers_in_every_mixture() -> None:
    plan = steps.plan(90)
    kinds = set()
    for rows in plan:
        decodes = [row for row in rows if row.tokens == 1]
        prompts = rows[len(decodes) :]
        assert rows[: len(decodes)] == decodes, "answers come first, as in vLLM"
        kinds.add((bool(decodes), bool(prompts), any(row.past for row in prompts)))
    # Whole prompts alone, beside answers, chunks beside answers, answers alone.
    assert {(False, True, False), (True, True, False), (True, True, True), (True, False, False)} <= kinds
    assert len(steps.lengths(plan)) == 8


@pytest.mark.parametrize("sequences", [1, 2, 5, 8, 800])
def test_each_sequence_goes_on_where_it_was(sequences: int) -> None:
    plan = steps.plan(90, sequences)
    assert all(rows and len(rows) <= sequences for rows in plan)
    for sequence in range(min(sequences, 8)):
        rows = [row for step in plan for row in step if row.sequence == sequence]
        assert rows[0].past == 0 and rows[-1].tokens == 1, "it ends as an answer"
        assert all(b.past == a.past + a.tokens for a, b in pairwise(rows))


@pytest.mark.parametrize(
    ("model", "step"), [(2668, 33568), (2668, 2048), (512, 512), (131072, 8192), (128, 128)]
)
def test_steps_fit_model_and_step(model: int, step: int) -> None:
    plan = steps.plan(steps.longest_prompt(steps.LONGEST, model, step))
    assert max(steps.lengths(plan)) <= model
    assert max(sum(row.tokens for row in rows) for rows in plan) <= step


def test_on_a_gpu_a_step_is_as_large_as_takes_the_gemms_for_many_rows() -> None:
    pytest.importorskip("vllm")
    from mlperf_llama.engine.hopper import gemm

    plan = steps.plan(steps.longest_prompt(steps.LONGEST, 2668, 33568))
    assert sum(row.tokens for row in plan[0]) >= gemm.MIN_ROWS


def test_tensors_of_steps_lead_each_token_to_a_place_of_its_own() -> None:
    plan = steps.plan(90)
    lengths = steps.lengths(plan)
    table, prompts = steps.block_tables(lengths, PAGE), steps.made_up_tokens(lengths, 512)
    used = table[table > 0].tolist()
    assert len(set(used)) == len(used) == sum(-(-n // PAGE) for n in lengths), "no page twice, no page 0"
    assert [len(prompt) for prompt in prompts] == lengths
    slots = []
    for rows in plan:
        made = steps.step_tensors(rows, prompts, table, PAGE)
        slots += made.slots.tolist()
        for row, (begin, end) in zip(rows, pairwise(made.starts.tolist()), strict=True):
            assert made.positions[begin:end].tolist() == list(range(row.past, row.past + row.tokens))
            assert torch.equal(
                made.input_ids[begin:end].long(), prompts[row.sequence][row.past :][: row.tokens]
            )
            assert end - 1 in made.wanted, "the logits of a row's last token"
            pages = made.slots[begin:end] // PAGE
            assert set(pages.tolist()) <= set(table[row.sequence].tolist())
        assert made.lengths.tolist() == [row.past + row.tokens for row in rows]
    assert len(set(slots)) == len(slots) == sum(lengths)


def test_errors_are_in_standard_deviations_and_never_nan() -> None:
    pytest.importorskip("vllm")
    from mlperf_llama.engine.hopper import self_check

    torch.manual_seed(0)
    wanted = torch.randn(3, 5000) * torch.tensor([[1.0], [4.0], [9.0]])
    found = wanted + 0.25 * wanted.std(-1, keepdim=True)
    each = self_check.errors([found[:1], found[1:]], [wanted[:1], wanted[1:]])
    torch.testing.assert_close(each, torch.full((3,), 0.25))
    found[1, 7] = torch.nan
    assert self_check.errors([found], [wanted])[1] == self_check.NOT_A_NUMBER
    other = torch.randn(3, 5000) * wanted.std(-1, keepdim=True)
    assert (self_check.errors([other], [wanted]) > 1.3).all(), "other logits altogether"


def test_places_name_the_compared_tokens_in_whole_sequences() -> None:
    planned = steps.plan(40)
    lengths = steps.lengths(planned)
    prompts = steps.made_up_tokens(lengths, 1000)
    table = steps.block_tables(lengths, 16)
    whole = torch.cat(prompts)
    fed = [steps.step_tensors(rows, prompts, table, 16) for rows in planned]
    wanted = torch.cat([step.input_ids[step.wanted] for step in fed])
    places = steps.places(planned, lengths)
    assert torch.equal(whole[places].int(), wanted)
    positions = torch.cat([torch.arange(n) for n in lengths])
    assert torch.equal(positions[places], torch.cat([step.positions[step.wanted] for step in fed]))
