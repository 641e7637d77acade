"""vLLM worker extension for `load_format="dummy"`: random weights of ordinary size.

Imported in the worker's process. vLLM's own dummy weights are tiny; with static FP8 scales or
in an FP8 cache they would be mostly zeros, and zeros run faster.
"""

from __future__ import annotations

import torch

from .hopper.compat import dummy_loader

# Made-up scales: weights of sd 0.02 and activations of sd 1 to 2 then use E4M3's range.
WEIGHT_SCALE, INPUT_SCALE, CACHE_SCALE, CODE_SD = 0.02 / 60, 0.03, 0.02, 60.0
BLOCK = 2**22
_codes: dict[object, torch.Tensor] = {}
_seen: set[object] = set()


def fill(parameter: torch.Tensor, *_: object, name: str = "weight", **__: object) -> None:
    """Random values by the parameter's role."""
    if parameter.device.type == "meta" or not torch.is_floating_point(parameter):
        return
    data = parameter.data
    if name.endswith(("k_scale", "v_scale", "q_scale", "prob_scale")):
        data.fill_(CACHE_SCALE)
    elif name.endswith("weight_scale"):
        data.fill_(WEIGHT_SCALE)
    elif name.endswith("input_scale"):
        data.fill_(INPUT_SCALE)
    elif parameter.ndim < 2:
        data.fill_(1.0)
    elif torch.finfo(parameter.dtype).bits < 16:
        _fill_codes(data)
    else:
        data.normal_(0, 0.02)


def _fill_codes(data: torch.Tensor) -> None:
    """One block of random numbers, laid down again and again: normal_ knows no FP8."""
    key = (data.device, data.dtype)
    if key not in _codes:
        draw = torch.randn(BLOCK, device=data.device) * CODE_SD
        _codes[key] = draw.clamp(-440, 440).to(data.dtype).view(torch.uint8)
    for part in data.view(torch.uint8).view(-1).split(BLOCK):
        part.copy_(_codes[key][: part.numel()])


def fill_model(model: torch.nn.Module, *_: object, **__: object) -> None:
    """vLLM calls this for every module, the outermost first."""
    for name, parameter in model.state_dict().items():
        key = (parameter.data_ptr(), parameter.shape)
        if parameter.device.type != "meta" and key not in _seen:
            _seen.add(key)
            fill(parameter, name=name)


dummy_loader.initialize_dummy_weights = fill_model
dummy_loader.initialize_single_dummy_weight = fill


class Extension:
    """Mixed into vLLM's worker; adds nothing itself."""
