"""Pipeline: collect → train → evaluate in unseen layouts → report.

Finished stages are not repeated; an interrupted stage resumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agents.learned.config import MODEL_BASED
from agents.planning.spec import PlannerSpec
from experiments.cache import Cache, list_files
from experiments.compute_costs import COSTS_DIR, add_cost, read_cost
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.open_loop_errors import ERRORS_FILE, read_open_loop_errors
from experiments.evaluation.results import EpisodeResult, format_layout
from experiments.evaluation.specs import EpisodeSpec, make_custom_specs, make_episode_specs
from experiments.methods.build import MethodSet
from experiments.methods.training import Training, TrainingGrid, train_all
from experiments.progress import RunProgress, show_progress_bar
from experiments.report.build import build_report
from experiments.versions import RESUMPTIONS_KEY, record_version_changes, start_or_resume
from sim.data.collect import CollectConfig, ShardResult, collect
from sim.data.store import Dataset
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.files import lock_directory, read_json, write_json
from worldmodels.assessment.open_loop import BodyPredictor, make_records, make_test_windows, measure_open_loop_error
from worldmodels.baselines import ConstantVelocity
from worldmodels.training.checkpoint import load_checkpoint

LAYOUTS_PER_ROUND = 10_000  # numbers of layouts that each round may use
# Core-seconds, measured on tote-push, for the progress of a run
SCRIPTED_STEP_S = 0.0014
HALF_PLANNED_STEP_S = 0.0155
UPDATE_S = 0.12
AGENT_STEP_S = {"sac": 0.018, "td3": 0.018, "ppo": 0.0022, "dyna": 0.003}


def run_experiment(config: ExperimentConfig, path: Path, workers: int, console: Console, cache: Cache | None = None) -> Path:
    """Run a whole experiment.

    Args:
        path: run directory; an interrupted run of the same config resumes there.
        cache: finished stages of other runs, which are not repeated.

    Returns:
        The report's page.

    Raises:
        GroundError: the directory holds another experiment, or is in use.
    """
    from experiments.viewer.recordings import make_recording_writer  # loads the viewer

    with lock_directory(path):
        pipeline = Pipeline(config, path, workers, console, cache)  # raises before anything is written
        start_or_resume(config, path, console)
        if cache is not None:
            cache.remove_abandoned_entries()
            if RESUMPTIONS_KEY in read_json(path / "versions.json", {}):
                pipeline.cache = replace(cache, is_writable=False)  # parts of this run come from other code
        for run_step in (pipeline.collect, pipeline.train, pipeline.evaluate, pipeline.measure_open_loop_errors):
            run_step()
            record_version_changes(path, console)
        planner_specs = {method.label: method.make_policy for method in MethodSet(config, path).make_all() if method.model}
        with show_progress_bar(console, "report") as progress:
            return build_report(path, make_recording_writer(planner_specs), progress)


@dataclass
class Pipeline:
    """The steps of one run, in the order of their dependencies.

    Attributes:
        method_names: of methods to evaluate; none: all.
        is_evaluation_only: no other step will run, which the progress takes into account.
        first_index: number of the first layout of each split.
    """

    config: ExperimentConfig
    path: Path
    workers: int
    console: Console
    cache: Cache | None = None
    method_names: Sequence[str] = ()
    is_evaluation_only: bool = False
    first_index: int = 0

    def __post_init__(self) -> None:
        self._grid = TrainingGrid(self.config, self.path)
        self._methods = MethodSet(self.config, self.path, self.method_names)
        expected_s = self._estimate_training_s() | self._estimate_evaluation_s(self.config.episodes)
        self._run_progress = RunProgress(self.console, expected_s, self.workers)

    def _estimate_training_s(self) -> dict[str, float]:
        """Estimate the core-seconds of data and trainings, by step."""
        expected_s = {}
        for name, data in self._make_collect_configs().items():
            is_planned = "planner" in dict(data.behaviours)
            expected_s[f"collect {name}"] = data.steps * (HALF_PLANNED_STEP_S if is_planned else SCRIPTED_STEP_S)
        for model in (*self._grid.collection_trainings, *self._grid.model_trainings):
            expected_s[f"train {model.path.name}"] = UPDATE_S * model.config.train.updates
        for agent in self._grid.agent_trainings:
            expected_s[f"train {agent.path.name}"] = AGENT_STEP_S[agent.config.algorithm] * agent.config.steps
        return expected_s

    def _estimate_evaluation_s(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Estimate the core-seconds of each method, by step, from episodes by split or layout."""
        return {
            f"{title}: {label}": recipe.episode_s * min(count, recipe.max_episodes or count)
            for label, recipe in self._methods.select_recipes().items()
            for title, count in counts.items()
        }

    def _make_collect_configs(self) -> dict[str, CollectConfig]:
        """Make the configs of all datasets, by name, in the order of collection."""
        config = self.config
        held_out = tuple(config.held_out.items())
        steps = config.held_out_steps
        max_steps = scenes[config.scene].shard_steps
        configs = {
            split: CollectConfig(config.scene, steps, config.seed, split, held_out, shard_steps=min(max_steps, steps))
            for split in ("val", "test")
        }
        for number, round_ in enumerate(config.rounds, 1):
            configs[f"round-{number}"] = CollectConfig(
                config.scene,
                round_.steps,
                config.seed + 1000 * number,
                behaviours=tuple(round_.behaviours.items()),
                variations=config.variations,
                shard_steps=min(max_steps, round_.steps),
                first_layout=LAYOUTS_PER_ROUND * number,
            )
        return configs

    def collect(self) -> None:
        """Collect all data, and train the models that some of it is collected with."""
        trainings = {f"round-{number}": training for number, training in enumerate(self._grid.collection_trainings, 1)}
        planner_path = None
        for name, collect_config in self._make_collect_configs().items():
            self._collect_dataset(name, collect_config, planner_path)
            if name in trainings:
                self._run_trainings([trainings[name]], 1)
                planner_path = trainings[name].path

    def _collect_dataset(self, name: str, collect_config: CollectConfig, model_path: Path | None = None) -> None:
        config = self.config
        planner = model_path and PlannerSpec(
            config.scene, str(model_path), config.search, config.collection_planner, is_compiled=config.compile_models
        )
        data_path = self.path / "data" / name
        cost_file = self.path / COSTS_DIR / f"collect {name}.json"
        content = {"collect": asdict(collect_config), "planner": planner and planner.describe_content()}
        if self.cache:
            self.cache.restore_directory(content, data_path, cost_file)
        behaviours = {"planner": planner} if planner else {}
        tags = {"planner": model_path.name} if model_path else {}
        with show_progress_bar(self.console, f"collect {name}") as progress:

            def save_cost(result: ShardResult) -> None:
                add_cost(cost_file, result.cpu_s)

            collect(collect_config, data_path, self.workers, behaviours, tags, progress, save_cost)
        if self.cache and cost_file.exists():
            self.cache.store(content, list_files(data_path), read_cost(cost_file))
        self._run_progress.mark_done(f"collect {name}")

    def train(self) -> None:
        """Train the models and agents that are compared; those that learn in a model come last."""
        models = self._grid.model_trainings
        agents = self._grid.agent_trainings
        model_free = [agent for agent in agents if agent.config.algorithm not in MODEL_BASED]
        longest_first: list[Training] = [*models[:1], *model_free, *models[1:]]
        self._run_trainings(longest_first, self.workers)
        self._run_trainings([agent for agent in agents if agent.config.algorithm in MODEL_BASED], self.workers)

    def _run_trainings(self, trainings: Sequence[Training], workers: int) -> None:
        costs_path = self.path / COSTS_DIR
        train_all(trainings, costs_path, workers, self.console, self.cache, self._run_progress.mark_done)

    def evaluate(self) -> list[EpisodeResult]:
        """Evaluate the methods on the layouts of each split."""
        config = self.config
        specs_by_split = {
            split: make_episode_specs(config.name, config.evaluation_scene, split, count, config.seed, self.first_index)
            for split, count in config.episodes.items()
        }
        return self._evaluate_methods(specs_by_split, self.cache)

    def evaluate_layouts(self, layouts: Sequence[Layout], num_episodes: int = 1) -> list[EpisodeResult]:
        """Evaluate the methods in custom layouts, with several episodes in each."""
        config = self.config
        scene = config.evaluation_scene
        specs_by_layout = {
            format_layout(layout.name, layout.id): make_custom_specs(config.name, scene, layout, num_episodes, config.seed)
            for layout in layouts
        }
        return self._evaluate_methods(specs_by_layout)

    def _evaluate_methods(self, specs_by_title: dict[str, list[EpisodeSpec]], cache: Cache | None = None) -> list[EpisodeResult]:
        for name, reason in self._methods.find_missing_external_methods().items():
            self.console.print(f"[yellow]{name} is not evaluated: {escape(reason)}[/]", soft_wrap=True)
        if self.is_evaluation_only:
            counts = {title: len(specs) for title, specs in specs_by_title.items()}
            self._run_progress = RunProgress(self.console, self._estimate_evaluation_s(counts), self.workers)
        results = []
        for method in self._methods.make_all():
            for title, specs in specs_by_title.items():
                with show_progress_bar(self.console, f"{title}: {method.label}") as progress:
                    path = self.path / "results" / method.name
                    results += evaluate(method, specs[: method.max_episodes], path, self.workers, progress, cache)
                self._run_progress.mark_done(f"{title}: {method.label}")
        return results

    def measure_open_loop_errors(self) -> None:
        """Measure the missing open-loop errors: of models, external models, constant velocity."""
        records = read_open_loop_errors(self.path)
        measured = {record["model"] for record in records}
        seed = self.config.train_seeds[0]
        paths = {model.name: self._grid.make_model_training(model, seed).path for model in self.config.models}
        for name, external in self._methods.read_external_models().items():
            if not self._methods.find_incompatibility(external):
                paths[name] = Path(external["path"])
        missing = [name for name in (*paths, ConstantVelocity.name) if name not in measured]
        if not missing:
            return
        dataset = Dataset.open(self.path / "data" / "test")
        for name in missing:
            model = load_checkpoint(paths[name], self.config.scene) if name in paths else ConstantVelocity()
            if isinstance(model, BodyPredictor) and not scenes[dataset.scene].is_skill:
                windows = make_test_windows(model, dataset)
                records += [{**record, "model": name} for record in make_records(measure_open_loop_error(model, windows))]
        write_json(self.path / ERRORS_FILE, records)
