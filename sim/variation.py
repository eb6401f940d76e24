"""What may differ from one episode to the next besides the space: fixed, sampled from a range, or held out of it."""

from dataclasses import dataclass, fields, replace

import numpy as np

from sim.utils.errors import GroundError, UnknownName

NONE, VARIED = "none", "varied"
APPEARANCES = (NONE, VARIED)


@dataclass(frozen=True)
class Variation:
    """The physics of one episode."""

    load_mass_kg: float = 6.0
    load_friction: float = 0.5
    load_scale: float = 1.0  # on the load's width and depth
    speed_limit_m_s: float = 0.8
    traffic_speed: float = 1.0  # times the speed that people and forklifts go at in their layout
    latency_steps: int = 0  # control steps between deciding and acting
    observation_noise: float = 0.0  # standard deviation on positions [m], yaw [rad], speeds [m/s, rad/s]
    appearance: str = NONE  # in pictures: the scene's own colours, or VARIED ones, which come from the episode's seed


def describe_differences(variation: Variation, base: Variation) -> list[str]:
    """What is other than usual, as it would be asked for."""
    values = ((field.name, getattr(variation, field.name), getattr(base, field.name)) for field in fields(Variation))
    return [
        f"{name}={value}" if isinstance(value, str) else f"{name}={value:.3g}" for name, value, usual in values if value != usual
    ]


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
    """Values in [low, high], none of them inside the open interval (hold_low, hold_high)."""

    low: float
    high: float
    held_out_low: float = 0.0
    held_out_high: float = 0.0

    def sample(self, rng: np.random.Generator) -> float:
        hole = max(0.0, self.held_out_high - self.held_out_low)
        value = rng.uniform(self.low, max(self.low, self.high - hole))  # the difference is rounded
        return float(value if hole == 0 or value <= self.held_out_low else value + hole)


@dataclass(frozen=True)
class Variations:
    """What each episode draws: a Span per varied field, the rest as in `base`.

    Written `load_mass_kg=3`, `load_mass_kg=3:12`, or with a part held out `load_mass_kg=3:12!5:7`; and `looks=varied`.
    """

    base: Variation = Variation()
    spans: tuple[tuple[str, Span], ...] = ()

    def sample(self, rng: np.random.Generator) -> Variation:
        values = {name: span.sample(rng) for name, span in self.spans}
        values = {name: round(value) if name == "latency_steps" else value for name, value in values.items()}
        return Variation(**{**self.base.__dict__, **values})

    @classmethod
    def parse(cls, texts: tuple[str, ...], base: Variation | None = None) -> "Variations":
        base, rest = base or Variation(), []
        for text in texts:
            name, _, value = text.partition("=")
            if name != "appearance":
                rest.append(text)
            elif value in APPEARANCES:
                base = replace(base, appearance=value)
            else:
                raise UnknownName("appearance", value, APPEARANCES)
        return cls(base, tuple(_parse(text) for text in rest))


def _parse(text: str) -> tuple[str, Span]:
    name, _, value = text.partition("=")
    known = [field.name for field in fields(Variation)]
    if name not in known:
        raise UnknownName("variation", name, known)
    whole, mark, hole = value.partition("!")
    try:
        low, high = _parse_bounds(whole)
        hold_low, hold_high = _parse_bounds(hole) if mark else (0.0, 0.0)
    except ValueError as error:
        raise GroundError(
            f"variation '{text}': write {name}=VALUE, {name}=LOW:HIGH or {name}=LOW:HIGH!HELD_LOW:HELD_HIGH"
        ) from error
    least, most = BOUNDS[name]
    if not least <= low <= high <= most:
        raise GroundError(f"variation '{text}': values from {least:g} to {most:g} in rising order are allowed")
    if name == "latency_steps" and not all(end.is_integer() for end in (low, high, hold_low, hold_high)):
        raise GroundError(f"variation '{text}': whole numbers of steps are needed")
    if mark and not (low <= hold_low < hold_high <= high and (low, high) != (hold_low, hold_high)):
        raise GroundError(f"variation '{text}': the held-out part must lie inside {low:g}:{high:g} and leave something")
    return name, Span(low, high, hold_low, hold_high)


def _parse_bounds(text: str) -> tuple[float, float]:
    ends = [float(part) for part in text.split(":")]
    if len(ends) not in (1, 2):
        raise ValueError(text)
    return ends[0], ends[-1]
