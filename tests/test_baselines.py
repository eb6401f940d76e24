import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.learned import sb3 as module
from agents.learned.baselines import BaselineSpec, train_baseline
from agents.learned.config import ALGORITHMS, MODEL_BASED, BaselineConfig, ModelData, Progress, get_snapshot_path
from agents.learned.dyna import BRANCH_STEPS, ImaginedEnv
from agents.learned.sb3 import BaselinePolicy
from sim.data.store import Dataset
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.sensors.flat import FLAT_VERSION, compute_flat_vector, is_version_independent
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.variation import Variation
from worldmodels.model import models
from worldmodels.training.checkpoint import save_checkpoint

SCENE = "logistics/tote-push"
SMALL: dict[str, Any] = {
    "ppo": {"n_steps": 64, "batch_size": 64, "n_epochs": 2},
    "sac": {"batch_size": 32, "learning_starts": 100, "train_freq": 8, "gradient_steps": 1},
    "td3": {"batch_size": 32, "learning_starts": 100, "train_freq": 8, "gradient_steps": 1},
    "dyna": {"batch_size": 32, "learning_starts": 100, "train_freq": 8, "gradient_steps": 1},
}
VELOCITIES = [
    0,
    1,
    2,
    *(3 + 10 * load + part for load in range(2) for part in (4, 5, 6)),
]  # of a flat observation; zero after reset
ENVS = {"ppo": 2, "dyna": 4}
IMAGINED: list[ModelData] = []


@pytest.fixture(autouse=True, scope="module")
def imagined(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ModelData:
    """A model that was never trained, for agents that learn in one."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_checkpoint(models["graph"](), path, "best", {"scene": SCENE})
    IMAGINED[:] = [ModelData(path, (dataset.path,))]
    return IMAGINED[0]


def fit(
    config: BaselineConfig, path: Path, progress: Progress = lambda done, total: None, snapshots: tuple[int, ...] = ()
) -> None:
    train_baseline(config, path, progress, snapshots, IMAGINED[0] if config.algorithm in MODEL_BASED else None)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[BaseAlgorithm]:
    """Every algorithm at a size for tests; the list holds those that were built."""
    for name, (kind, settings, _) in ALGORITHMS.items():
        monkeypatch.setitem(ALGORITHMS, name, (kind, {**settings, **SMALL[name]}, ENVS.get(name, 1)))
    built: list[BaseAlgorithm] = []
    build = module._make_algorithm

    def remembered(config: BaselineConfig, env: Any) -> BaseAlgorithm:
        built.append(build(config, env))
        return built[-1]

    monkeypatch.setattr(module, "_make_algorithm", remembered)
    return built


def observations(count: int = 12) -> list[dict[str, np.ndarray]]:
    env = GroundEnv(SCENE, "test")
    seen = [env.reset(seed=0)[0]]
    rng = np.random.default_rng(0)
    seen += [env.step(rng.uniform(-1, 1, 2))[0] for _ in range(count - 1)]
    env.close()
    return seen


def acts(policy: BaselinePolicy) -> np.ndarray:
    return np.array([policy.predict(observation)[0] for observation in observations()])


def about(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "policy.json").read_text()))


def stop_at(steps: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= steps:
            raise InterruptedError

    return progress


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_trained_agent_acts_after_loading_as_before(
    name: str, tmp_path: Path, made: list[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NUM_TRAINING_LAYOUTS", 3)
    config = BaselineConfig(name, SCENE, steps=500, save_every=10_000)
    reported: list[tuple[int, int]] = []
    fit(config, tmp_path / name, progress=lambda *args: reported.append(args))
    trained = made[0]
    assert reported[-1] == (500, 500)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    policy = BaselineSpec(SCENE, str(tmp_path / name))()
    policy.start_episode(EpisodeStart(0, scenes[SCENE].sample_layout("test", 0), Variation()))
    vectors = [compute_flat_vector(seen, scenes[SCENE].task, scenes[SCENE].max_dynamic) for seen in observations()]
    before = np.array([np.clip(trained.predict(vector, deterministic=True)[0], -1, 1) for vector in vectors])
    assert isinstance(policy, BaselinePolicy)
    found = acts(policy)
    assert np.array_equal(found, before)
    assert len(np.unique(found, axis=0)) > 1
    facts = about(tmp_path / name)
    assert (facts["finished"], facts["algorithm"]) == (True, name)
    assert facts["steps"] >= 500
    assert sorted(file.suffix for file in (tmp_path / name).iterdir() if file.name != ".lock") == [".json", ".safetensors"]
    assert bool(facts["layouts"]) == (name not in MODEL_BASED)
    assert set(facts["layouts"]) <= {scenes[SCENE].sample_layout("train", index).id for index in range(3)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_interrupted_training_goes_on_from_what_was_saved(name: str, tmp_path: Path, made: list[BaseAlgorithm]) -> None:
    config = BaselineConfig(name, SCENE, steps=600, save_every=200)
    with pytest.raises(InterruptedError):
        fit(config, tmp_path, stop_at(500))
    saved = about(tmp_path)
    assert 200 <= saved["steps"] < 500
    assert saved["finished"] is False
    assert (saved["replay"] is None) == (name == "ppo")
    weights = {key: value.clone() for key, value in made[0].policy.state_dict().items()}
    reported: list[int] = []
    fit(config, tmp_path, lambda done, total: reported.append(done))
    assert saved["steps"] < reported[0] <= saved["steps"] + 100
    assert 600 <= about(tmp_path)["steps"] <= 600 + 2 * 64
    assert about(tmp_path)["finished"] is True
    assert about(tmp_path)["cpu_s"] > saved["cpu_s"]
    assert (saved["resumed_at"], about(tmp_path)["resumed_at"]) == ([], [saved["steps"]])
    assert weights.keys() == made[1].policy.state_dict().keys()
    assert not list(tmp_path.glob("replay-*"))


def test_a_long_training_goes_on_with_a_seed_of_its_own() -> None:
    seeds = [module._derive_seed(seed, steps) for seed in (0, 7, 2**32 - 1) for steps in (200, 20_000, 10**9)]
    assert len({np.random.RandomState(seed).bytes(8) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_restored_is_what_was_saved(
    name: str, tmp_path: Path, made: list[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, optimisers, replay and the spread of rewards, just before training goes on."""
    config = BaselineConfig(name, SCENE, steps=600, save_every=200)

    def saved_then_stop(self: Any, finished: bool) -> None:
        save(self, finished)
        raise InterruptedError

    save = module._CheckpointCallback.save
    monkeypatch.setattr(module._CheckpointCallback, "save", saved_then_stop)
    with pytest.raises(InterruptedError):
        fit(config, tmp_path)
    monkeypatch.setattr(type(made[0]), "learn", lambda self, *_, **__: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        fit(config, tmp_path)
    first, second = made
    assert second.num_timesteps == first.num_timesteps > 0
    for key, value in first.policy.state_dict().items():
        assert np.array_equal(value, second.policy.state_dict()[key])
    for optimizer in module._get_optimizer_parameters(first):
        states = [module._get_optimizer_parameters(model)[optimizer]["state"] for model in made]
        assert states[0].keys() == states[1].keys()
        for index, state in states[0].items():
            assert all(np.array_equal(value, states[1][index][key]) for key, value in state.items())
    spreads = [module._get_return_statistics(model) for model in made]
    assert float(spreads[0].var) == float(spreads[1].var) != 1
    if name != "ppo":
        buffers: list[Any] = [getattr(model, "replay_buffer", None) for model in made]
        count = buffers[0].pos
        assert buffers[1].pos == count > 0
        for part in ("observations", "next_observations", "actions", "rewards", "dones"):
            assert np.array_equal(getattr(buffers[0], part)[:count], getattr(buffers[1], part)[:count])


def test_a_finished_training_is_left_as_it_is_and_another_refused(tmp_path: Path, made: list[BaseAlgorithm]) -> None:
    config = BaselineConfig("ppo", SCENE, steps=130)
    fit(config, tmp_path)
    before = (tmp_path / "policy.json").read_bytes()
    fit(config, tmp_path, stop_at(0))
    assert (tmp_path / "policy.json").read_bytes() == before
    assert len(made) == 1
    with pytest.raises(GroundError, match="another configuration"):
        fit(BaselineConfig("ppo", SCENE, steps=260), tmp_path)


def test_damaged_and_foreign_agents_are_refused(tmp_path: Path) -> None:
    fit(BaselineConfig("ppo", SCENE, steps=130), tmp_path)
    facts = about(tmp_path)
    weights = tmp_path / facts["weights"]
    content = weights.read_bytes()
    for keep in (0, 100, len(content) - 1):
        weights.write_bytes(content[:keep])
        with pytest.raises(BadFile, match=weights.name):
            BaselinePolicy(tmp_path, SCENE)
    weights.write_bytes(content)
    for change in (
        {"format": 2},
        {"scene": "logistics/other"},
        {"weights": "missing.safetensors"},
        {"config": {}},
        {"config": None},
    ):
        (tmp_path / "policy.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(GroundError) as caught:
            BaselinePolicy(tmp_path, SCENE)
        assert "\n" not in str(caught.value)
    for text in ("", "[]", "{"):
        (tmp_path / "policy.json").write_text(text)
        with pytest.raises(BadFile):
            BaselinePolicy(tmp_path, SCENE)
    with pytest.raises(BadFile, match="train one first"):
        BaselinePolicy(tmp_path / "nothing", SCENE)


def test_an_agent_that_learned_from_another_observation_is_told(tmp_path: Path) -> None:
    name = "factory/push-fixture"
    config = BaselineConfig("ppo", name, steps=130)
    fit(config, tmp_path)
    assert about(tmp_path)["observes"] == FLAT_VERSION
    earlier = {key: value for key, value in about(tmp_path).items() if key != "observes"}
    (tmp_path / "policy.json").write_text(json.dumps(earlier))
    with pytest.raises(BadFile, match="another observation"):
        BaselinePolicy(tmp_path, name)
    with pytest.raises(BadFile, match="another observation"):
        fit(config, tmp_path)
    assert [is_version_independent(scenes[scene]) for scene in (SCENE, name, "logistics/aisle-traffic")] == [True, False, False]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'sac'"):
        BaselineConfig("sacc", SCENE)
    for change in ({"steps": 0}, {"save_every": 0}):
        with pytest.raises(GroundError, match="positive"):
            BaselineConfig("sac", SCENE, **change)


def test_an_agent_is_kept_as_it_was_on_the_way(tmp_path: Path) -> None:
    fit(BaselineConfig("sac", SCENE, steps=500), tmp_path / "long", snapshots=(300, 400))
    fit(BaselineConfig("sac", SCENE, steps=300), tmp_path / "short")
    at, short = (BaselineSpec(SCENE, str(path))() for path in (get_snapshot_path(tmp_path / "long", 300), tmp_path / "short"))
    assert about(get_snapshot_path(tmp_path / "long", 300))["steps"] == 300
    assert 0 < about(get_snapshot_path(tmp_path / "long", 400))["cpu_s"] < about(tmp_path / "long")["cpu_s"]
    assert isinstance(at, BaselinePolicy)
    assert isinstance(short, BaselinePolicy)
    assert np.allclose(acts(at), acts(short), atol=0.05)  # but for what is learned at the last step


def test_imagined_futures_look_and_cost_as_real_ones(imagined: ModelData, dataset: Dataset) -> None:
    """Where a future begins, its flat observation and reward are the environment's for the same bodies."""
    futures = ImaginedEnv(imagined, SCENE, 6)
    seen, (_, costs, _) = futures.reset(), futures._observe()
    env = GroundEnv(SCENE, "train")
    episodes = list(dataset.episodes())
    for index, row in enumerate(futures._rows):
        episode = futures._episodes[futures._owner[row]]
        assert any(episode.layout.id == other.layout.id for other in episodes)
        position = futures._state.position[index, : len(episode.half_extents)].numpy()
        heading = np.angle(futures._state.heading[index, : len(episode.half_extents)].numpy())
        poses = np.stack([position.real, position.imag, heading], -1)
        options = {"layout": episode.layout, "variation": episode.variation, "poses": poses}
        observation, info = env.reset(seed=0, options=options)
        assert costs[index] == pytest.approx(info["cost"], abs=5e-3)
        real = compute_flat_vector(observation, scenes[SCENE].task, scenes[SCENE].max_dynamic)
        np.testing.assert_allclose(np.delete(seen[index], VELOCITIES), np.delete(real, VELOCITIES), atol=2e-3)
    env.close()


def test_imagined_futures_are_short_and_begin_anew(imagined: ModelData) -> None:
    futures = ImaginedEnv(imagined, SCENE, 4)
    futures.seed(3)
    first = futures.reset()
    for step in range(1, 2 * BRANCH_STEPS + 1):
        seen, rewards, ended, infos = futures.step(np.zeros((4, 2), np.float32))
        assert seen.shape == first.shape
        assert (rewards <= 0).all()
        for index in np.flatnonzero(ended):
            assert infos[index]["terminal_observation"].shape == first[index].shape
        if step == BRANCH_STEPS:
            assert ended.all() or any(not info["TimeLimit.truncated"] for info in infos)
    futures.seed(3)
    assert np.array_equal(futures.reset(), first)


def test_an_agent_that_learns_in_a_model_needs_one(tmp_path: Path, imagined: ModelData) -> None:
    with pytest.raises(GroundError, match="dyna needs a model"):
        train_baseline(BaselineConfig("dyna", SCENE), tmp_path)
    with pytest.raises(GroundError, match="sac does not learn in a model"):
        train_baseline(BaselineConfig("sac", SCENE), tmp_path, model_data=imagined)


def test_an_agent_of_another_model_is_not_passed_off_as_of_this_one(tmp_path: Path, imagined: ModelData) -> None:
    config = BaselineConfig("dyna", SCENE, steps=128)
    train_baseline(config, tmp_path / "agent", model_data=imagined)
    other = Path(shutil.copytree(imagined.model, tmp_path / "other"))
    weights = load_file(other / "best.safetensors")
    save_file({name: values * 1.01 for name, values in weights.items()}, other / "best.safetensors")
    train_baseline(config, tmp_path / "agent", model_data=imagined)
    with pytest.raises(GroundError, match="learned in another model"):
        train_baseline(config, tmp_path / "agent", model_data=replace(imagined, model=other))
