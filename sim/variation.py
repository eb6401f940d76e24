"""Variation of physics and appearance between episodes.

A value is fixed, sampled from a range, or sampled from a range without a held-out part.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sim.utils.errors import GroundError, UnknownName

NONE = "none"
VARIED = "varied"
APPEARANCES = (NONE, VARIED)


@dataclass(frozen=True)
class Variation:
    """Physics and appearance of an episode."""

    load_mass_kg: float = 6.0
    load_friction: float = 0.5
    load_scale: float = 1.0  # factor on the load's width and depth
    speed_limit_m_s: float = 0.8
    traffic_speed: float = 1.0  # factor on the speeds of people and forklifts
    latency_steps: int = 0  # control steps from a decision to its action
    observation_noise: float = 0.0  # standard deviation [m, rad, m/s, rad/s]
    appearance: str = NONE  # of images; VARIED: colours from the episode's seed


def describe_differences(variation: Variation, base: Variation) -> list[str]:
    """Describe the values that differ from `base`, in the syntax of `Variations.parse`."""
    changes = {name: value for name, value in vars(variation).items() if value != getattr(base, name)}
    return [f"{name}={value}" if isinstance(value, str) else f"{name}={value:.3g}" for name, value in changes.items()]


BOUNDS = {
    "load_mass_kg": (0.1, 100.0),
    "load_friction": (0.02, 2.0),
    "load_scale": (0.4, 2.0),
    "speed_limit_m_s": (0.05, 3.0),
    "traffic_speed": (0.1, 3.0),
    "latency_steps": (0, 10),
    "observation_noise": (0.0, 1.0),
}


@dataclass(frozen=True)
class Span:
    """The interval [low, high] without the open interval (held_out_low, held_out_high)."""

    low: float
    high: float
    held_out_low: float = 0.0
    held_out_high: float = 0.0

    def sample(self, rng: np.random.Generator) -> float:
        """Sample uniformly."""
        gap = max(0.0, self.held_out_high - self.held_out_low)
        value = rng.uniform(self.low, max(self.low, self.high - gap))  # gap: rounded
        return float(value if gap == 0 or value <= self.held_out_low else value + gap)


@dataclass(frozen=True)
class Variations:
    """Distribution of Variation: a Span for each varied field, the other fields as in `base`.

    As text: `load_mass_kg=3`, `load_mass_kg=3:12`, `load_mass_kg=3:12!5:7` with a held-out part,
    and `appearance=varied`.
    """

    base: Variation = Variation()
    spans: tuple[tuple[str, Span], ...] = ()

    def sample(self, rng: np.random.Generator) -> Variation:
        """Sample the variation of an episode."""
        values: dict[str, Any] = {name: span.sample(rng) for name, span in self.spans}
        if "latency_steps" in values:
            values["latency_steps"] = round(values["latency_steps"])
        return replace(self.base, **values)

    @classmethod
    def parse(cls, texts: tuple[str, ...], base: Variation | None = None) -> "Variations":
        """Parse variations from text.

        Args:
            texts: such as `load_mass_kg=3:12`.
            base: values of the other fields; None: the defaults.

        Raises:
            UnknownName: unknown field or appearance.
            GroundError: wrong syntax, values out of bounds, or a field given twice.
        """
        base = base or Variation()
        spans = []
        names = [text.partition("=")[0] for text in texts]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise GroundError(f"variation '{repeated[0]}' is given twice")
        for text in texts:
            name, _, value = text.partition("=")
            if name != "appearance":
                spans.append(_parse_span(text))
            elif value in APPEARANCES:
                base = replace(base, appearance=value)
            else:
                raise UnknownName("appearance", value, APPEARANCES)
        return cls(base, tuple(spans))


def _parse_span(text: str) -> tuple[str, Span]:
    name, _, value = text.partition("=")
    known = [field.name for field in fields(Variation)]
    if name not in known:
        raise UnknownName("variation", name, known)
    interval, mark, held_out = value.partition("!")
    try:
        low, high = _parse_bounds(interval)
        held_out_low, held_out_high = _parse_bounds(held_out) if mark else (0.0, 0.0)
    except ValueError as error:
        raise GroundError(
            f"variation '{text}': write {name}=VALUE, {name}=LOW:HIGH or {name}=LOW:HIGH!HELD_OUT_LOW:HELD_OUT_HIGH"
        ) from error
    minimum, maximum = BOUNDS[name]
    if not minimum <= low <= high <= maximum:
        raise GroundError(f"variation '{text}': values from {minimum:g} to {maximum:g} in rising order are allowed")
    if name == "latency_steps" and not all(end.is_integer() for end in (low, high, held_out_low, held_out_high)):
        raise GroundError(f"variation '{text}': whole numbers of steps are needed")
    if mark and not (low <= held_out_low < held_out_high <= high and (low, high) != (held_out_low, held_out_high)):
        raise GroundError(f"variation '{text}': the held-out part must be smaller than {low:g}:{high:g} and lie inside it")
    return name, Span(low, high, held_out_low, held_out_high)


def _parse_bounds(text: str) -> tuple[float, float]:
    ends = [float(part) for part in text.split(":")]
    if len(ends) not in (1, 2):
        raise ValueError(text)
    return ends[0], ends[-1]
