import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import interrupt_at
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
MODEL_DATA: list[ModelData] = []


@pytest.fixture(autouse=True, scope="module")
def model_data(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ModelData:
    """Save an untrained model, for agents that learn in a model."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_checkpoint(models["graph"](), path, "best", {"scene": SCENE})
    MODEL_DATA[:] = [ModelData(path, (dataset.path,))]
    return MODEL_DATA[0]


def train(
    config: BaselineConfig, path: Path, progress: Progress = lambda done, total: None, snapshots: tuple[int, ...] = ()
) -> None:
    train_baseline(config, path, progress, snapshots, MODEL_DATA[0] if config.algorithm in MODEL_BASED else None)


@pytest.fixture(autouse=True)
def algorithms(monkeypatch: pytest.MonkeyPatch) -> list[BaseAlgorithm]:
    """Make every algorithm small; the list contains the algorithms that were built."""
    for name, (kind, settings, _) in ALGORITHMS.items():
        monkeypatch.setitem(ALGORITHMS, name, (kind, {**settings, **SMALL[name]}, ENVS.get(name, 1)))
    built: list[BaseAlgorithm] = []
    build = module._make_algorithm

    def build_and_record(config: BaselineConfig, env: Any) -> BaseAlgorithm:
        built.append(build(config, env))
        return built[-1]

    monkeypatch.setattr(module, "_make_algorithm", build_and_record)
    return built


def make_observations(count: int = 12) -> list[dict[str, np.ndarray]]:
    env = GroundEnv(SCENE, "test")
    observations = [env.reset(seed=0)[0]]
    rng = np.random.default_rng(0)
    observations += [env.step(rng.uniform(-1, 1, 2))[0] for _ in range(count - 1)]
    env.close()
    return observations


def compute_actions(policy: BaselinePolicy) -> np.ndarray:
    return np.array([policy.predict(observation)[0] for observation in make_observations()])


def read_metadata(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "policy.json").read_text()))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_loaded_agent_acts_as_the_trained_agent(
    name: str, tmp_path: Path, algorithms: list[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NUM_TRAINING_LAYOUTS", 3)
    config = BaselineConfig(name, SCENE, steps=500, save_every=10_000)
    reported: list[tuple[int, int]] = []
    train(config, tmp_path / name, progress=lambda *args: reported.append(args))
    trained = algorithms[0]
    assert reported[-1] == (500, 500)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    policy = BaselineSpec(SCENE, str(tmp_path / name))()
    policy.start_episode(EpisodeStart(0, scenes[SCENE].sample_layout("test", 0), Variation()))
    vectors = [
        compute_flat_vector(observations, scenes[SCENE].task, scenes[SCENE].max_dynamic) for observations in make_observations()
    ]
    before = np.array([np.clip(trained.predict(vector, deterministic=True)[0], -1, 1) for vector in vectors])
    assert isinstance(policy, BaselinePolicy)
    actions = compute_actions(policy)
    assert np.array_equal(actions, before)
    assert len(np.unique(actions, axis=0)) > 1
    metadata = read_metadata(tmp_path / name)
    assert (metadata["finished"], metadata["algorithm"]) == (True, name)
    assert metadata["steps"] >= 500
    assert sorted(file.suffix for file in (tmp_path / name).iterdir() if file.name != ".lock") == [".json", ".safetensors"]
    assert bool(metadata["layouts"]) == (name not in MODEL_BASED)
    assert set(metadata["layouts"]) <= {scenes[SCENE].sample_layout("train", index).id for index in range(3)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_interrupted_training_resumes_from_its_checkpoint(name: str, tmp_path: Path, algorithms: list[BaseAlgorithm]) -> None:
    config = BaselineConfig(name, SCENE, steps=600, save_every=200)
    with pytest.raises(InterruptedError):
        train(config, tmp_path, interrupt_at(500))
    saved = read_metadata(tmp_path)
    assert 200 <= saved["steps"] < 500
    assert saved["finished"] is False
    assert (saved["replay"] is None) == (name == "ppo")
    weights = {key: value.clone() for key, value in algorithms[0].policy.state_dict().items()}
    reported: list[int] = []
    train(config, tmp_path, lambda done, total: reported.append(done))
    assert saved["steps"] < reported[0] <= saved["steps"] + 100
    assert 600 <= read_metadata(tmp_path)["steps"] <= 600 + 2 * 64
    assert read_metadata(tmp_path)["finished"] is True
    assert read_metadata(tmp_path)["cpu_s"] > saved["cpu_s"]
    assert (saved["resumed_at"], read_metadata(tmp_path)["resumed_at"]) == ([], [saved["steps"]])
    assert weights.keys() == algorithms[1].policy.state_dict().keys()
    assert not list(tmp_path.glob("replay-*"))


def test_a_resumed_training_has_a_different_seed() -> None:
    seeds = [module._derive_seed(seed, steps) for seed in (0, 7, 2**32 - 1) for steps in (200, 20_000, 10**9)]
    assert len({np.random.RandomState(seed).bytes(8) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_training_restores_its_state(
    name: str, tmp_path: Path, algorithms: list[BaseAlgorithm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, optimisers, replay buffer and return statistics are compared before the training continues."""
    config = BaselineConfig(name, SCENE, steps=600, save_every=200)

    def save_and_interrupt(self: Any, finished: bool) -> None:
        save(self, finished)
        raise InterruptedError

    save = module._CheckpointCallback.save
    monkeypatch.setattr(module._CheckpointCallback, "save", save_and_interrupt)
    with pytest.raises(InterruptedError):
        train(config, tmp_path)
    monkeypatch.setattr(type(algorithms[0]), "learn", lambda self, *_, **__: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        train(config, tmp_path)
    first, second = algorithms
    assert second.num_timesteps == first.num_timesteps > 0
    for key, value in first.policy.state_dict().items():
        assert np.array_equal(value, second.policy.state_dict()[key])
    for optimizer in module._get_optimizer_parameters(first):
        states = [module._get_optimizer_parameters(model)[optimizer]["state"] for model in algorithms]
        assert states[0].keys() == states[1].keys()
        for index, state in states[0].items():
            assert all(np.array_equal(value, states[1][index][key]) for key, value in state.items())
    statistics = [module._get_return_statistics(model) for model in algorithms]
    assert float(statistics[0].var) == float(statistics[1].var) != 1
    if name != "ppo":
        buffers: list[Any] = [getattr(model, "replay_buffer", None) for model in algorithms]
        count = buffers[0].pos
        assert buffers[1].pos == count > 0
        for part in ("observations", "next_observations", "actions", "rewards", "dones"):
            assert np.array_equal(getattr(buffers[0], part)[:count], getattr(buffers[1], part)[:count])


def test_a_finished_training_is_not_repeated_and_other_settings_are_refused(
    tmp_path: Path, algorithms: list[BaseAlgorithm]
) -> None:
    config = BaselineConfig("ppo", SCENE, steps=130)
    train(config, tmp_path)
    before = (tmp_path / "policy.json").read_bytes()
    train(config, tmp_path, interrupt_at(0))
    assert (tmp_path / "policy.json").read_bytes() == before
    assert len(algorithms) == 1
    with pytest.raises(GroundError, match="another configuration"):
        train(BaselineConfig("ppo", SCENE, steps=260), tmp_path)


def test_damaged_and_foreign_agents_are_refused(tmp_path: Path) -> None:
    train(BaselineConfig("ppo", SCENE, steps=130), tmp_path)
    metadata = read_metadata(tmp_path)
    weights = tmp_path / metadata["weights"]
    content = weights.read_bytes()
    for size in (0, 100, len(content) - 1):
        weights.write_bytes(content[:size])
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
        (tmp_path / "policy.json").write_text(json.dumps({**metadata, **change}))
        with pytest.raises(GroundError) as caught:
            BaselinePolicy(tmp_path, SCENE)
        assert "\n" not in str(caught.value)
    for text in ("", "[]", "{"):
        (tmp_path / "policy.json").write_text(text)
        with pytest.raises(BadFile):
            BaselinePolicy(tmp_path, SCENE)
    with pytest.raises(BadFile, match="train one first"):
        BaselinePolicy(tmp_path / "nothing", SCENE)


def test_an_agent_trained_on_another_observation_version_is_refused(tmp_path: Path) -> None:
    name = "factory/push-fixture"
    config = BaselineConfig("ppo", name, steps=130)
    train(config, tmp_path)
    assert read_metadata(tmp_path)["observes"] == FLAT_VERSION
    old_metadata = {key: value for key, value in read_metadata(tmp_path).items() if key != "observes"}
    (tmp_path / "policy.json").write_text(json.dumps(old_metadata))
    with pytest.raises(BadFile, match="another observation"):
        BaselinePolicy(tmp_path, name)
    with pytest.raises(BadFile, match="another observation"):
        train(config, tmp_path)
    assert [is_version_independent(scenes[scene]) for scene in (SCENE, name, "logistics/aisle-traffic")] == [True, False, False]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'sac'"):
        BaselineConfig("sacc", SCENE)
    for change in ({"steps": 0}, {"save_every": 0}):
        with pytest.raises(GroundError, match="positive"):
            BaselineConfig("sac", SCENE, **change)


def test_snapshots_equal_shorter_trainings(tmp_path: Path) -> None:
    train(BaselineConfig("sac", SCENE, steps=500), tmp_path / "long", snapshots=(300, 400))
    train(BaselineConfig("sac", SCENE, steps=300), tmp_path / "short")
    snapshot, short = (
        BaselineSpec(SCENE, str(path))() for path in (get_snapshot_path(tmp_path / "long", 300), tmp_path / "short")
    )
    assert read_metadata(get_snapshot_path(tmp_path / "long", 300))["steps"] == 300
    assert 0 < read_metadata(get_snapshot_path(tmp_path / "long", 400))["cpu_s"] < read_metadata(tmp_path / "long")["cpu_s"]
    assert isinstance(snapshot, BaselinePolicy)
    assert isinstance(short, BaselinePolicy)
    assert np.allclose(compute_actions(snapshot), compute_actions(short), atol=0.05)  # the last update differs


def test_model_rollouts_begin_with_observations_and_rewards_of_the_environment(model_data: ModelData, dataset: Dataset) -> None:
    """The first flat observation and reward of a rollout equal those of the environment for the same bodies."""
    rollouts = ImaginedEnv(model_data, SCENE, 6)
    observations, (_, costs, _) = rollouts.reset(), rollouts._observe()
    env = GroundEnv(SCENE, "train")
    episodes = list(dataset.episodes())
    for index, row in enumerate(rollouts._rows):
        episode = rollouts._episodes[rollouts._owner[row]]
        assert any(episode.layout.id == item.layout.id for item in episodes)
        position = rollouts._state.position[index, : len(episode.half_extents)].numpy()
        heading = np.angle(rollouts._state.heading[index, : len(episode.half_extents)].numpy())
        poses = np.stack([position.real, position.imag, heading], -1)
        options = {"layout": episode.layout, "variation": episode.variation, "poses": poses}
        observation, info = env.reset(seed=0, options=options)
        assert costs[index] == pytest.approx(info["cost"], abs=5e-3)
        real = compute_flat_vector(observation, scenes[SCENE].task, scenes[SCENE].max_dynamic)
        np.testing.assert_allclose(np.delete(observations[index], VELOCITIES), np.delete(real, VELOCITIES), atol=2e-3)
    env.close()


def test_model_rollouts_have_a_fixed_length_and_restart(model_data: ModelData) -> None:
    rollouts = ImaginedEnv(model_data, SCENE, 4)
    rollouts.seed(3)
    first = rollouts.reset()
    for step in range(1, 2 * BRANCH_STEPS + 1):
        observations, rewards, ended, infos = rollouts.step(np.zeros((4, 2), np.float32))
        assert observations.shape == first.shape
        assert (rewards <= 0).all()
        for index in np.flatnonzero(ended):
            assert infos[index]["terminal_observation"].shape == first[index].shape
        if step == BRANCH_STEPS:
            assert ended.all() or any(not info["TimeLimit.truncated"] for info in infos)
    rollouts.seed(3)
    assert np.array_equal(rollouts.reset(), first)


def test_model_data_are_required_only_for_model_based_agents(tmp_path: Path, model_data: ModelData) -> None:
    with pytest.raises(GroundError, match="dyna needs a model"):
        train_baseline(BaselineConfig("dyna", SCENE), tmp_path)
    with pytest.raises(GroundError, match="sac does not learn in a model"):
        train_baseline(BaselineConfig("sac", SCENE), tmp_path, model_data=model_data)


def test_an_agent_that_learned_in_another_model_is_refused(tmp_path: Path, model_data: ModelData) -> None:
    config = BaselineConfig("dyna", SCENE, steps=128)
    train_baseline(config, tmp_path / "agent", model_data=model_data)
    changed = Path(shutil.copytree(model_data.model, tmp_path / "changed"))
    weights = load_file(changed / "best.safetensors")
    save_file({name: values * 1.01 for name, values in weights.items()}, changed / "best.safetensors")
    train_baseline(config, tmp_path / "agent", model_data=model_data)
    with pytest.raises(GroundError, match="learned in another model"):
        train_baseline(config, tmp_path / "agent", model_data=replace(model_data, model=changed))
