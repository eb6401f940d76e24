from dataclasses import replace

import numpy as np
import pytest

from experiments.report.measures.layout_distance import DESCRIPTOR_NAMES, TrainingLayouts, compute_descriptor
from sim.layout import Box, Hall, Layout, Pose
from sim.scenes.scene import scenes


def hall(*boxes: Box, loads: tuple[Pose, ...] = ()) -> Layout:
    return Layout(Hall(0, 0, 6, 6), Pose(1, 3), loads, Pose(5, 3), boxes)


def told(layout: Layout) -> dict[str, float]:
    return dict(zip(DESCRIPTOR_NAMES, compute_descriptor(layout), strict=True))


def test_an_empty_hall_without_loads() -> None:
    found = told(hall())
    assert found["free area [m²]"] == pytest.approx(36)
    assert (found["boxes"], found["loads and traffic"]) == (0, 0)
    assert found["route [m]"] == pytest.approx(4, abs=0.15)
    assert found["detour"] == pytest.approx(1, abs=0.05)


def test_the_only_passage_is_measured_and_a_wall_is_a_detour() -> None:
    gap = 0.8
    wall = Box(3, (6 - gap) / 2, 0.2, 6 - gap)  # all the way up to a gap at the top
    found = told(hall(wall))
    assert found["widest passage [m]"] == pytest.approx(gap, abs=0.2)
    assert found["detour"] > 1.4
    assert found["free area [m²]"] == pytest.approx(36 - 0.2 * (6 - gap), abs=0.4)
    assert told(hall(Box(3, 3, 0.2, 6)))["widest passage [m]"] == 0  # closed: the straight way is taken


def test_the_route_leads_over_the_load() -> None:
    assert told(hall(loads=(Pose(1, 5),)))["route [m]"] == pytest.approx(2 + np.hypot(4, 2), abs=0.4)


def test_a_training_space_is_at_no_distance_and_an_odd_one_far_away() -> None:
    scene = scenes["logistics/tote-push"]
    trained = [scene.sample_layout("train", index) for index in range(30)]
    spaces = TrainingLayouts([*trained, trained[0]])
    assert spaces.count == 30
    assert spaces.compute_distance(replace(trained[3], name="renamed")) == pytest.approx(0)
    test, crowded = (
        np.median([spaces.compute_distance(scene.sample_layout(split, index)) for index in range(12)])
        for split in ("test", "shift-more-racks")
    )
    assert 0 < test < crowded


@pytest.mark.parametrize("name", list(scenes))
def test_spaces_of_every_scene_have_numbers(name: str) -> None:
    scene = scenes[name]
    for split in scene.splits[:3]:
        assert np.isfinite(compute_descriptor(scene.sample_layout(split, 0))).all()
    assert TrainingLayouts([scene.sample_layout("train", 0)]).compute_distance(scene.sample_layout("train", 0)) == 0


def test_denser_traffic_is_further_away() -> None:
    scene = scenes["logistics/aisle-traffic"]
    spaces = TrainingLayouts([scene.sample_layout("train", index) for index in range(30)])
    test, dense = (
        np.median([spaces.compute_distance(scene.sample_layout(split, index)) for index in range(12)])
        for split in ("test", "shift-dense")
    )
    assert test < dense
