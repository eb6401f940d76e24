"""Images in datasets, and varied appearance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import limit_steps, make_action, read_files

from experiments.cli.data import describe_data
from sim.data.collect import CollectConfig, collect
from sim.data.images import ImageConfig, compute_storage_cost, decode_image, encode_image, read_images
from sim.data.store import IMAGE_PREFIX, Dataset
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.sensors.cameras import CameraImage
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.variation import APPEARANCES, VARIED, Variations

IMAGES = ImageConfig(("overhead", "robot"), (48, 32), every=7, lossless=True)
CONFIG = CollectConfig(steps=400, shard_steps=200, seed=3, variations=("appearance=varied",), images=IMAGES)


@pytest.fixture(scope="module")
def image_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return collect(CONFIG, tmp_path_factory.mktemp("images") / "one", workers=1)


def render_image(scene: str = "logistics/tote-push", **options: object) -> CameraImage:
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0, **options})
    return env.render_camera("side", 64, 48)


@pytest.mark.parametrize("scene", list(scenes))
def test_encoded_images_are_decoded(scene: str) -> None:
    image = render_image(scene)
    lossless, lossy = decode_image(encode_image(image, lossless=True)), decode_image(encode_image(image))
    np.testing.assert_array_equal(lossless.rgb, image.rgb)
    assert np.abs(lossy.rgb.astype(int) - image.rgb).mean() < 8
    for decoded in (lossless, lossy):
        np.testing.assert_array_equal(decoded.body, image.body)
        assert (decoded.body.dtype, decoded.depth_m.dtype) == (image.body.dtype, image.depth_m.dtype)
        np.testing.assert_allclose(decoded.depth_m, np.minimum(image.depth_m, 65.535), atol=5.1e-4)


def test_images_of_a_dataset_belong_to_its_steps(image_dataset: Dataset) -> None:
    episodes, stored = list(image_dataset.episodes()), list(read_images(image_dataset))
    assert len(episodes) == len(stored)
    for episode, item in zip(episodes, stored, strict=True):
        np.testing.assert_array_equal(item.steps, np.arange(0, len(episode), IMAGES.every))
        assert set(item.images) == set(IMAGES.cameras)
    env = GroundEnv(image_dataset.scene, "train", variations=Variations.parse(CONFIG.variations))
    episode, item = next((e, s) for e, s in zip(episodes, stored, strict=True) if len(e) > 10)
    poses = np.column_stack([episode.pose[0, :, :2], 2 * np.arctan2(episode.pose[0, :, 5], episode.pose[0, :, 6])])
    env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation, "poses": poses})
    for camera in IMAGES.cameras:
        rendered, stored_image = env.render_camera(camera, *IMAGES.size), item.images[camera][0]
        assert (rendered.rgb == stored_image.rgb).mean() > 0.99  # headings were stored in 32 bits
        assert (rendered.body == stored_image.body).mean() > 0.99


def test_images_do_not_depend_on_workers_and_do_not_change_states(image_dataset: Dataset, tmp_path: Path) -> None:
    parallel = collect(CONFIG, tmp_path / "two", workers=2)
    assert read_files(parallel.path) == read_files(image_dataset.path)
    plain = collect(replace(CONFIG, images=None, variations=()), tmp_path / "plain", workers=1)
    for with_images, without_images in zip(image_dataset.episodes(), plain.episodes(), strict=True):
        assert with_images.variation == replace(without_images.variation, appearance=VARIED)
        for name in ("pose", "twist", "action", "cost", "touching", "static_force_n"):
            assert getattr(with_images, name).tobytes() == getattr(without_images, name).tobytes()


def test_states_are_read_without_images_and_storage_costs_are_computed(image_dataset: Dataset, tmp_path: Path) -> None:
    cost = compute_storage_cost(image_dataset)
    assert cost.steps == 400
    assert cost.image_bytes > cost.state_bytes > 0
    assert any(name.startswith(IMAGE_PREFIX) for name in pq.read_schema(image_dataset.path / "shard-00000.parquet").names)
    assert all(episode.images is None for episode in image_dataset.episodes())


def test_a_dataset_that_was_killed_before_its_first_shard_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sim.data.collect.run_jobs", lambda *_: iter(()))
    collect(CONFIG, tmp_path / "begun", workers=1)
    describe_data(tmp_path / "begun")
    assert "0 readable steps in 0 shards" in capfd.readouterr().out


def test_faults_are_reported(image_dataset: Dataset, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="no images"):
        next(read_images(dataset))
    with pytest.raises(UnknownName, match="overhead"):
        ImageConfig(("overhad",))
    for change in ({"size": (0, 9)}, {"every": 0}, {"cameras": ()}, {"cameras": ("side", "side")}):
        with pytest.raises(GroundError):
            ImageConfig(**{"cameras": ("side",), **change})
    damaged = Dataset(tmp_path, image_dataset.manifest)
    (tmp_path / "shard-00000.parquet").write_bytes((image_dataset.path / "shard-00000.parquet").read_bytes()[:5000])
    with pytest.raises(BadFile, match="damaged"):
        next(read_images(damaged))
    with pytest.raises(UnknownName, match="varied"):
        Variations.parse(("appearance=vared",))


@pytest.mark.parametrize("scene", list(scenes))
def test_varied_appearance_keeps_the_physics_of_the_split(scene: str) -> None:
    for split in scenes[scene].splits:
        usual, varied = (scenes[scene].make_variations(split, texts) for texts in ((), ("appearance=varied",)))
        assert varied == replace(usual, base=replace(usual.base, appearance=VARIED))


@pytest.mark.parametrize("scene", list(scenes))
def test_varied_appearance_changes_only_colours(scene: str) -> None:
    base = scenes[scene].get_variations("test").base
    standard, varied = (
        GroundEnv(scene, "test", variations=Variations(replace(base, appearance=appearance))) for appearance in APPEARANCES
    )
    colours = []
    for seed in range(3):
        before, _ = standard.reset(seed=seed, options={"index": 0})
        after, _ = varied.reset(seed=seed, options={"index": 0})
        plain, coloured = standard.render_camera("side", 64, 48), varied.render_camera("side", 64, 48)
        np.testing.assert_array_equal(plain.body, coloured.body)
        np.testing.assert_array_equal(plain.depth_m, coloured.depth_m)
        assert np.abs(plain.rgb.astype(int) - coloured.rgb).mean() > 3
        colours.append(coloured.rgb)
        for step in range(limit_steps(scene, 15)):
            action = make_action(scene, np.sin(step + seed), 0.5)
            expected, observation = standard.step(action)[0], varied.step(action)[0]
            assert all(expected[name].tobytes() == observation[name].tobytes() for name in expected)
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)
        varied.reset(seed=seed, options={"index": 0, "variation": varied.variation})  # as a replay does
        np.testing.assert_array_equal(varied.render_camera("side", 64, 48).rgb, coloured.rgb)
    assert np.abs(colours[0].astype(int) - colours[1]).mean() > 3
