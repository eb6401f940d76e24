from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import SPLIT_SPECS
from sim.utils.errors import GroundError, UnknownName
from sim.variation import BOUNDS, Span, Variation, Variations

NAMES = list(BOUNDS)  # of numeric fields


@st.composite
def varied_fields(draw: st.DrawFn) -> tuple[str, Span]:
    """Draw a varied field with a held-out part."""
    name = draw(st.sampled_from(NAMES))
    minimum, maximum = BOUNDS[name]
    number = st.integers(int(minimum), int(maximum)) if name == "latency_steps" else st.floats(minimum, maximum)
    low, held_out_low, held_out_high, high = sorted(float(draw(number)) for _ in range(4))
    assume(held_out_low < held_out_high and (low, high) != (held_out_low, held_out_high))
    return name, Span(low, high, held_out_low, held_out_high)


def format_span(name: str, span: Span) -> str:
    return f"{name}={span.low!r}:{span.high!r}!{span.held_out_low!r}:{span.held_out_high!r}"


@given(varied_fields(), st.integers(0, 2**31))
def test_held_out_values_are_never_sampled(varied: tuple[str, Span], seed: int) -> None:
    name, span = varied
    variations = Variations.parse((format_span(name, span),))
    rng = np.random.default_rng(seed)
    values = np.array([getattr(variations.sample(rng), name) for _ in range(50)], float)
    assert np.all((span.low - 1e-12 <= values) & (values <= span.high + 1e-12))
    assert not np.any((span.held_out_low + 1e-12 < values) & (values < span.held_out_high - 1e-12))


@given(varied_fields())
def test_text_round_trip(varied: tuple[str, Span]) -> None:
    name, span = varied
    assert Variations.parse((format_span(name, span),)) == Variations(spans=((name, span),))


def test_the_remaining_range_is_sampled_uniformly() -> None:
    variations = Variations.parse(("load_mass_kg=2:12!4:10",))
    rng = np.random.default_rng(0)
    masses = np.array([variations.sample(rng).load_mass_kg for _ in range(4000)])
    counts, _ = np.histogram(masses, bins=[2, 3, 4, 10, 11, 12])
    assert counts[2] == 0
    assert np.all(np.abs(counts[[0, 1, 3, 4]] - 1000) < 150)


@pytest.mark.parametrize("name", NAMES)
def test_fixed_value_changes_only_its_field(name: str) -> None:
    value = float(round(0.5 * sum(BOUNDS[name]), 2))
    variation = Variations.parse((f"{name}={value}",)).sample(np.random.default_rng(0))
    assert variation == Variation(**{**Variation().__dict__, name: value})
    assert isinstance(getattr(variation, name), int) == (name == "latency_steps")


def test_nothing_varies_without_spans() -> None:
    assert Variations().sample(np.random.default_rng(0)) == Variation()
    base = Variation(load_mass_kg=9.0)
    assert Variations.parse(("load_friction=0.3",), base).sample(np.random.default_rng(0)) == Variation(9.0, 0.3)


@given(varied_fields(), st.integers(0, 100))
def test_the_same_generator_gives_the_same_variation(varied: tuple[str, Span], seed: int) -> None:
    variations = Variations(spans=(varied,))
    assert variations.sample(np.random.default_rng(seed)) == variations.sample(np.random.default_rng(seed))


@pytest.mark.parametrize(
    "text",
    [
        "load_mass_kg", "load_mass_kg=", "load_mass_kg=heavy", "load_mass_kg=1:2:3", "load_mass_kg=5:3", "load_mass_kg=nan",
        "load_mass_kg=inf", "load_mass_kg=3:inf", "load_mass_kg=-1", "load_mass_kg=1e9", "load_mass_kg=3:12!",
        "load_mass_kg=3:12!2:5", "load_mass_kg=3:12!5:5", "load_mass_kg=3:12!7:5", "load_mass_kg=3:12!nan:5",
        "load_mass_kg=3:12!4:20", "latency_steps=1.5", "latency_steps=0:6!1.5:3", "load_mass_kg=3:12!3:12",
    ],
)  # fmt: skip
def test_invalid_texts_are_rejected_in_one_line(text: str) -> None:
    with pytest.raises(GroundError) as caught:
        Variations.parse((text,))
    assert f"variation '{text}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    for words in (text, f"load_mass_kg={text}", f"load_mass_kg=3:12!{text}"):
        try:
            variations = Variations.parse((words,))
        except GroundError:
            continue
        assert np.isfinite(variations.sample(np.random.default_rng(0)).load_mass_kg)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'load_friction'"):
        Variations.parse(("load_fricton=0.3",))


@pytest.mark.parametrize("scene", scenes)
def test_splits_vary_within_bounds(scene: str) -> None:
    for split in scenes[scene].splits:
        for name, span in scenes[scene].get_variations(split).spans:
            minimum, maximum = BOUNDS[name]
            assert minimum <= span.low <= span.high <= maximum


def test_physics_shift_holds_out_the_training_values() -> None:
    training = Variation()
    for name, span in SPLIT_SPECS["shift-physics"].variations.spans:
        assert span.held_out_low < getattr(training, name) < span.held_out_high


@pytest.mark.parametrize("scene", scenes)
def test_other_values_stay_as_in_the_scene(scene: str) -> None:
    """A part of 400 g does not become a tote of 6 kg because its friction is fixed."""
    base = scenes[scene].get_variations("train").base
    variation = scenes[scene].make_variations("train", ("load_friction=0.3",)).sample(np.random.default_rng(0))
    assert variation == replace(base, load_friction=0.3)
    assert scenes[scene].make_variations("train", ()) == scenes[scene].get_variations("train")
