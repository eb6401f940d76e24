"""Pictures in datasets, and looks that vary in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import contents

from experiments.cli.data import describe_data
from sim.data.collect import CollectConfig, collect
from sim.data.images import TIMINGS, ImageConfig, compute_storage_cost, decode_image, encode_image, read_images
from sim.data.store import IMAGE_PREFIX, Dataset
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.sensors.cameras import CameraImage
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.variation import APPEARANCES, VARIED, Variations

TAKEN = ImageConfig(("overhead", "robot"), (48, 32), every=7, lossless=True)
CONFIG = CollectConfig(steps=400, shard_steps=200, seed=3, variations=("appearance=varied",), images=TAKEN)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return collect(CONFIG, tmp_path_factory.mktemp("pictured") / "one", workers=1)


def taken(scene: str = "logistics/tote-push", **options: object) -> CameraImage:
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0, **options})
    return env.render_camera("side", 64, 48)


@pytest.mark.parametrize("scene", list(scenes))
def test_what_is_written_is_read(scene: str) -> None:
    picture = taken(scene)
    exact, close = decode_image(encode_image(picture, lossless=True)), decode_image(encode_image(picture))
    np.testing.assert_array_equal(exact.rgb, picture.rgb)
    assert np.abs(close.rgb.astype(int) - picture.rgb).mean() < 8
    for read in (exact, close):
        np.testing.assert_array_equal(read.body, picture.body)
        assert (read.body.dtype, read.depth_m.dtype) == (picture.body.dtype, picture.depth_m.dtype)
        np.testing.assert_allclose(read.depth_m, np.minimum(picture.depth_m, 65.535), atol=5.1e-4)


def test_a_datasets_pictures_are_those_of_its_steps(pictured: Dataset) -> None:
    episodes, seen = list(pictured.episodes()), list(read_images(pictured))
    assert len(episodes) == len(seen)
    for episode, shown in zip(episodes, seen, strict=True):
        np.testing.assert_array_equal(shown.steps, np.arange(0, len(episode), TAKEN.every))
        assert set(shown.images) == set(TAKEN.cameras)
    env = GroundEnv(pictured.scene, "train", variations=Variations.parse(CONFIG.variations))
    episode, shown = next((e, s) for e, s in zip(episodes, seen, strict=True) if len(e) > 10)
    poses = np.column_stack([episode.pose[0, :, :2], 2 * np.arctan2(episode.pose[0, :, 5], episode.pose[0, :, 6])])
    env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation, "poses": poses})
    for camera in TAKEN.cameras:
        now, then = env.render_camera(camera, *TAKEN.size), shown.images[camera][0]
        assert (now.rgb == then.rgb).mean() > 0.99  # headings were stored in 32 bits
        assert (now.body == then.body).mean() > 0.99


def test_the_same_bytes_for_any_number_of_workers_and_states_as_without(pictured: Dataset, tmp_path: Path) -> None:
    two = collect(CONFIG, tmp_path / "two", workers=2)
    assert {n: c for n, c in contents(two.path).items() if n != TIMINGS} == {
        n: c for n, c in contents(pictured.path).items() if n != TIMINGS
    }
    plain = collect(replace(CONFIG, images=None, variations=()), tmp_path / "plain", workers=1)
    for one, other in zip(pictured.episodes(), plain.episodes(), strict=True):
        assert one.variation == replace(other.variation, appearance=VARIED)
        for name in ("pose", "twist", "action", "cost", "touching", "static_force_n"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_reading_states_leaves_the_pictures_and_the_price_is_told(pictured: Dataset, tmp_path: Path) -> None:
    cost = compute_storage_cost(pictured)
    assert cost.steps == 400
    assert cost.image_bytes > cost.state_bytes > 0
    assert cost.seconds > cost.image_seconds > 0
    assert "steps/s" in str(cost)
    assert any(name.startswith(IMAGE_PREFIX) for name in pq.read_schema(pictured.path / "shard-00000.parquet").names)
    assert all(episode.images is None for episode in pictured.episodes())


def test_a_dataset_that_was_killed_before_its_first_shard_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sim.data.collect.run_jobs", lambda *_: iter(()))
    collect(CONFIG, tmp_path / "begun", workers=1)
    describe_data(tmp_path / "begun")
    assert "0 readable steps in 0 shards" in capfd.readouterr().out


def test_faults_are_told(pictured: Dataset, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="no images"):
        next(read_images(dataset))
    with pytest.raises(UnknownName, match="overhead"):
        ImageConfig(("overhad",))
    for wrong in ({"size": (0, 9)}, {"every": 0}, {"cameras": ()}, {"cameras": ("side", "side")}):
        with pytest.raises(GroundError):
            ImageConfig(**{"cameras": ("side",), **wrong})
    damaged = Dataset(tmp_path, pictured.manifest)
    (tmp_path / "shard-00000.parquet").write_bytes((pictured.path / "shard-00000.parquet").read_bytes()[:5000])
    with pytest.raises(BadFile, match="damaged"):
        next(read_images(damaged))
    with pytest.raises(UnknownName, match="varied"):
        Variations.parse(("appearance=vared",))


@pytest.mark.parametrize("scene", list(scenes))
def test_varied_looks_leave_the_physics_to_the_split(scene: str) -> None:
    for split in scenes[scene].splits:
        usual, varied = (scenes[scene].make_variations(split, texts) for texts in ((), ("appearance=varied",)))
        assert varied == replace(usual, base=replace(usual.base, appearance=VARIED))


@pytest.mark.parametrize("scene", list(scenes))
def test_varied_looks_change_colours_alone(scene: str) -> None:
    base = scenes[scene].get_variations("test").base
    none, varied = (GroundEnv(scene, "test", variations=Variations(replace(base, appearance=looks))) for looks in APPEARANCES)
    colours = []
    for seed in range(3):
        before, _ = none.reset(seed=seed, options={"index": 0})
        after, _ = varied.reset(seed=seed, options={"index": 0})
        plain, dressed = none.render_camera("side", 64, 48), varied.render_camera("side", 64, 48)
        np.testing.assert_array_equal(plain.body, dressed.body)
        np.testing.assert_array_equal(plain.depth_m, dressed.depth_m)
        assert np.abs(plain.rgb.astype(int) - dressed.rgb).mean() > 3
        colours.append(dressed.rgb)
        for step in range(15):
            action = np.array([np.sin(step + seed), 0.5])
            one, other = none.step(action)[0], varied.step(action)[0]
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)
        varied.reset(seed=seed, options={"index": 0, "variation": varied.variation})  # as a replay does
        np.testing.assert_array_equal(varied.render_camera("side", 64, 48).rgb, dressed.rgb)
    assert np.abs(colours[0].astype(int) - colours[1]).mean() > 3
