from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import SPLIT_SPECS
from sim.utils.errors import GroundError, UnknownName
from sim.variation import BOUNDS, Span, Variation, Variations

NAMES = list(BOUNDS)  # of what is a number


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, Span]:
    """A varied field with a part held out."""
    name = draw(st.sampled_from(NAMES))
    least, most = BOUNDS[name]
    number = st.integers(int(least), int(most)) if name == "latency_steps" else st.floats(least, most)
    low, hold_low, hold_high, high = sorted(float(draw(number)) for _ in range(4))
    assume(hold_low < hold_high and (low, high) != (hold_low, hold_high))
    return name, Span(low, high, hold_low, hold_high)


def written(name: str, span: Span) -> str:
    return f"{name}={span.low!r}:{span.high!r}!{span.held_out_low!r}:{span.held_out_high!r}"


@given(spans(), st.integers(0, 2**31))
def test_what_is_held_out_is_never_sampled(varied: tuple[str, Span], seed: int) -> None:
    name, span = varied
    variations = Variations.parse((written(name, span),))
    rng = np.random.default_rng(seed)
    values = np.array([getattr(variations.sample(rng), name) for _ in range(50)], float)
    assert np.all((span.low - 1e-12 <= values) & (values <= span.high + 1e-12))
    assert not np.any((span.held_out_low + 1e-12 < values) & (values < span.held_out_high - 1e-12))


@given(spans())
def test_what_is_written_is_read(varied: tuple[str, Span]) -> None:
    name, span = varied
    assert Variations.parse((written(name, span),)) == Variations(spans=((name, span),))


def test_all_of_the_rest_is_sampled() -> None:
    variations = Variations.parse(("load_mass_kg=2:12!4:10",))
    rng = np.random.default_rng(0)
    masses = np.array([variations.sample(rng).load_mass_kg for _ in range(4000)])
    counts, _ = np.histogram(masses, bins=[2, 3, 4, 10, 11, 12])
    assert counts[2] == 0
    assert np.all(np.abs(counts[[0, 1, 3, 4]] - 1000) < 150)


@pytest.mark.parametrize("name", NAMES)
def test_a_fixed_value_is_that_value_and_the_rest_stays(name: str) -> None:
    value = float(round(0.5 * sum(BOUNDS[name]), 2))
    variation = Variations.parse((f"{name}={value}",)).sample(np.random.default_rng(0))
    assert variation == Variation(**{**Variation().__dict__, name: value})
    assert isinstance(getattr(variation, name), int) == (name == "latency_steps")


def test_nothing_varies_without_spans() -> None:
    assert Variations().sample(np.random.default_rng(0)) == Variation()
    base = Variation(load_mass_kg=9.0)
    assert Variations.parse(("load_friction=0.3",), base).sample(np.random.default_rng(0)) == Variation(9.0, 0.3)


@given(spans(), st.integers(0, 100))
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
def test_what_makes_no_sense_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(GroundError) as caught:
        Variations.parse((text,))
    assert f"variation '{text}'" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for words in (text, f"load_mass_kg={text}", f"load_mass_kg=3:12!{text}"):
        try:
            variations = Variations.parse((words,))
        except GroundError:
            continue
        assert np.isfinite(variations.sample(np.random.default_rng(0)).load_mass_kg)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'load_friction'"):
        Variations.parse(("load_fricton=0.3",))


@pytest.mark.parametrize("scene", scenes)
def test_splits_vary_within_bounds(scene: str) -> None:
    for split in scenes[scene].splits:
        for name, span in scenes[scene].get_variations(split).spans:
            least, most = BOUNDS[name]
            assert least <= span.low <= span.high <= most


def test_the_physics_tier_leaves_out_what_training_has() -> None:
    training = Variation()
    for name, span in SPLIT_SPECS["shift-physics"].variations.spans:
        assert span.held_out_low < getattr(training, name) < span.held_out_high


@pytest.mark.parametrize("scene", scenes)
def test_what_is_not_named_stays_as_the_scene_has_it(scene: str) -> None:
    """A part of 400 g does not become a tote of 6 kg because its friction is fixed."""
    base = scenes[scene].get_variations("train").base
    found = scenes[scene].make_variations("train", ("load_friction=0.3",)).sample(np.random.default_rng(0))
    assert found == replace(base, load_friction=0.3)
    assert scenes[scene].make_variations("train", ()) == scenes[scene].get_variations("train")
