from dataclasses import replace

import numpy as np
import pytest

from experiments.report.measures.layout_distance import DESCRIPTOR_NAMES, TrainingDistance, compute_descriptor
from sim.layout import Box, Hall, Layout, Pose
from sim.scenes.scene import scenes


def make_layout(*boxes: Box, loads: tuple[Pose, ...] = ()) -> Layout:
    return Layout(Hall(0, 0, 6, 6), Pose(1, 3), loads, Pose(5, 3), boxes)


def compute_descriptor_values(layout: Layout) -> dict[str, float]:
    return dict(zip(DESCRIPTOR_NAMES, compute_descriptor(layout), strict=True))


def test_an_empty_hall_without_loads() -> None:
    descriptor = compute_descriptor_values(make_layout())
    assert descriptor["free area [m²]"] == pytest.approx(36)
    assert (descriptor["boxes"], descriptor["loads and traffic"]) == (0, 0)
    assert descriptor["route [m]"] == pytest.approx(4, abs=0.15)
    assert descriptor["detour"] == pytest.approx(1, abs=0.05)


def test_the_widest_passage_and_the_detour_of_a_wall_are_computed() -> None:
    gap = 0.8
    wall = Box(3, (6 - gap) / 2, 0.2, 6 - gap)  # leaves a gap at the top
    descriptor = compute_descriptor_values(make_layout(wall))
    assert descriptor["widest passage [m]"] == pytest.approx(gap, abs=0.2)
    assert descriptor["detour"] > 1.4
    assert descriptor["free area [m²]"] == pytest.approx(36 - 0.2 * (6 - gap), abs=0.4)
    assert (
        compute_descriptor_values(make_layout(Box(3, 3, 0.2, 6)))["widest passage [m]"] == 0
    )  # closed: the route is a straight line


def test_the_route_leads_over_the_load() -> None:
    assert compute_descriptor_values(make_layout(loads=(Pose(1, 5),)))["route [m]"] == pytest.approx(2 + np.hypot(4, 2), abs=0.4)


def test_training_layouts_are_at_distance_zero_and_shifted_layouts_far_away() -> None:
    scene = scenes["logistics/tote-push"]
    trained = [scene.sample_layout("train", index) for index in range(30)]
    training_distance = TrainingDistance([*trained, trained[0]])
    assert training_distance.count == 30
    assert training_distance.compute_distance(replace(trained[3], name="renamed")) == pytest.approx(0)
    test, crowded = (
        np.median([training_distance.compute_distance(scene.sample_layout(split, index)) for index in range(12)])
        for split in ("test", "shift-more-racks")
    )
    assert 0 < test < crowded


@pytest.mark.parametrize("name", list(scenes))
def test_descriptors_of_every_scene_are_finite(name: str) -> None:
    scene = scenes[name]
    for split in scene.splits[:3]:
        assert np.isfinite(compute_descriptor(scene.sample_layout(split, 0))).all()
    assert TrainingDistance([scene.sample_layout("train", 0)]).compute_distance(scene.sample_layout("train", 0)) == 0


def test_denser_traffic_is_farther_away() -> None:
    scene = scenes["logistics/aisle-traffic"]
    training_distance = TrainingDistance([scene.sample_layout("train", index) for index in range(30)])
    test, dense = (
        np.median([training_distance.compute_distance(scene.sample_layout(split, index)) for index in range(12)])
        for split in ("test", "shift-dense")
    )
    assert test < dense
