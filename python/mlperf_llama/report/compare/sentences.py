"""The comparison in words: which is faster and by how much, at which load, and with what accuracy."""

from __future__ import annotations

from ... import rules
from .. import outcome
from ..blocks import number
from .differences import EQUAL, Difference, difference, one_value
from .sides import Group, Measured

# How a higher and a lower figure is called.
RATE, LATENCY = ("faster", "slower"), ("slower", "faster")
REPEATS = "without repeats the noise is not known (`A=` and `B=` take several folders, with commas)"


def sentence(a: Group, b: Group, scenario: str) -> str:
    """What one scenario says of the two."""
    tuned = [one_value([m.tuned for m in group.measured(scenario)]) for group in (a, b)]
    if tuned[0] and tuned[1]:
        return _tuned(scenario, tuned[0], tuned[1])
    if scenario in rules.TOKEN_LATENCY_LIMITS_MS:
        return _at_a_load(a, b, scenario)
    single = scenario == rules.SINGLE_STREAM
    speed = difference(a, b, scenario, "latency_p90_ms" if single else "samples_per_second")
    if speed is None:
        return f"{scenario}: no speed was measured in both."
    return f"{scenario}: {_faster(speed, LATENCY if single else RATE)}."


def _faster(speed: Difference, words: tuple[str, str]) -> str:
    first, second = speed.means
    figures = f"{_figure(second)} against {_figure(first)} {speed.unit.replace(' ms', '')}"
    if speed.unit.endswith(" ms"):
        figures = f"{speed.unit.removesuffix(' ms')} {_figure(second)} against {_figure(first)} ms"
    change = speed.change
    if change is None or abs(change) < EQUAL:
        return f"A and B are equally fast ({figures}){_noise(speed, equal=True)}"
    word = words[0] if change > 0 else words[1]
    return f"B is {percent(change)} {word} than A ({figures}){_noise(speed)}"


def _noise(speed: Difference, equal: bool = False) -> str:
    if speed.noise is None or speed.beyond is None:
        return "" if equal else f"; {REPEATS}"
    where = "beyond" if speed.beyond else "within"
    end = "" if speed.beyond else ": no difference is shown"
    return f", {where} the noise of repeats of {percent(speed.noise)}{'' if equal else end}"


def _figure(value: float) -> str:
    """Three digits or more."""
    return number(value, 0 if value >= 1000 else 1 if value >= 100 else 2)


def percent(share: float) -> str:
    """A share without its sign: 28%, 1.2%."""
    value = abs(100 * share)
    return f"{value:.0f}%" if value >= 10 else f"{value:.1f}%"


def _tuned(scenario: str, first: float, second: float) -> str:
    """What tuning found: the highest load, or the speed, or the latency."""
    unit = {rules.SINGLE_STREAM: "ms", rules.OFFLINE: "samples/s"}.get(scenario, "queries/s")
    change, figures = second / first - 1, f"{_figure(second)} against {_figure(first)} {unit}"
    if abs(change) < EQUAL:
        return f"{scenario}, as tuned: A and B are equally fast ({figures})."
    if scenario in rules.TOKEN_LATENCY_LIMITS_MS:
        more = "more" if change > 0 else "less"
        return f"{scenario}, as tuned: B holds {percent(change)} {more} load than A ({figures})."
    words = LATENCY if scenario == rules.SINGLE_STREAM else RATE
    word = words[0] if change > 0 else words[1]
    return f"{scenario}, as tuned: B is {percent(change)} {word} than A ({figures})."


def _at_a_load(a: Group, b: Group, scenario: str) -> str:
    """Server and Interactive: the rate is what was asked for, and the latencies are what was measured."""
    requested = [one_value([m.requested_qps for m in group.measured(scenario)]) for group in (a, b)]
    if requested[0] and requested[0] == requested[1]:
        return f"{scenario} at the same {requested[0]:g} queries/s: {_latencies(a, b, scenario)}."
    loads = " and ".join(
        f"{group.letter} was asked for {f'{qps:g} queries/s' if qps else 'a load that is not recorded'}"
        for group, qps in zip((a, b), requested, strict=True)
    )
    rooms = "; ".join(f"{group.letter} {_room(group, scenario)}" for group in (a, b))
    return (
        f"{scenario}: {loads}, so the rates say what was asked for, not what each can do. "
        f"{rooms}. `make tune` finds the highest load of each."
    )


def _latencies(a: Group, b: Group, scenario: str) -> str:
    parts = []
    limits_ms = rules.TOKEN_LATENCY_LIMITS_MS[scenario]
    for key, name, limit in zip(("ttft_p99_ms", "tpot_p99_ms"), ("TTFT", "TPOT"), limits_ms, strict=True):
        latency = difference(a, b, scenario, key)
        if latency is None or latency.change is None:
            continue
        first, second = latency.means
        word = "higher" if latency.change > 0 else "lower"
        what = "equal" if abs(latency.change) < EQUAL else f"{percent(latency.change)} {word} in B"
        noise = "" if latency.noise is None else f", noise {percent(latency.noise)}"
        figures = f"{_figure(second)} against {_figure(first)} ms, limit {limit:g}{noise}"
        parts.append(f"{name} p99 {what} ({figures})")
    return ", ".join(parts) or "no latencies were measured in both"


def _room(group: Group, scenario: str) -> str:
    """What is left to the nearer limit."""
    performance = group.measured(scenario)[0].performance
    if performance is None:
        return "was not measured"
    nearer = outcome.nearest(outcome.token_latencies(scenario, performance))
    if nearer is None:
        return "has no latencies"
    left = 100 * (1 - nearer.value / nearer.limit)
    room = f"has {left:.0f}% room" if left >= 0 else f"is {-left:.0f}% over its limit"
    return f"{room} in {nearer.name}"


def accuracy(a: Group, b: Group, scenario: str) -> str | None:
    """ROUGE-1 of both with its standard error; None where one was not scored."""
    first, second = (_scored(group, scenario) for group in (a, b))
    if first is None or second is None:
        return None
    change = _rouge1(second) - _rouge1(first)
    errors = [_error(measured) for measured in (first, second)]
    scores = " against ".join(
        f"{_rouge1(measured):.2f}{f' ± {error:.2f}' if error else ''}"
        for measured, error in ((second, errors[1]), (first, errors[0]))
    )
    start = f"{scenario}, ROUGE-1 of B and A: {scores}"
    if not errors[0] or not errors[1]:
        return f"{start}; the standard error is not recorded (`make score` writes it)."
    both = 2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    where = "within" if abs(change) <= both else "beyond"
    return f"{start}; the difference of {change:+.2f} is {where} two standard errors ({both:.2f})."


def _scored(group: Group, scenario: str) -> Measured | None:
    scored = (m for m in group.measured(scenario) if m.accuracy and m.accuracy.rouge1 is not None)
    return next(scored, None)


def _rouge1(measured: Measured) -> float:
    value = measured.accuracy.rouge1 if measured.accuracy else None
    return value if value is not None else 0.0


def _error(measured: Measured) -> float | None:
    errors = measured.accuracy.standard_errors if measured.accuracy else None
    return (errors or {}).get("rouge1")
