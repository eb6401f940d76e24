"""collect → train → plan in unseen spaces → compare → report; a finished step is left as it is, a broken one goes on."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from agents.learned.config import MODEL_BASED
from agents.planning.spec import PlannerSpec
from experiments.cache import Cache, list_files
from experiments.compute_costs import COSTS_DIR, add_cost, read_cost
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.methods.build import MethodSet
from experiments.methods.grid import DEFAULT_ROUND_UPDATES, ModelRun, TrainingGrid
from experiments.methods.method import EpisodeSpec, make_episode_specs
from experiments.methods.training import Training, train_all
from experiments.progress import RunProgress, show_progress_bar
from experiments.report.build import build_report
from experiments.versions import RESUMPTIONS_KEY, record_version_changes, start_or_resume
from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.layout import Layout
from sim.utils.files import lock_directory, read_json, write_json
from worldmodels.assessment.open_loop import ConstantVelocity, measure_open_loop_error, to_records
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.windows import Windows

MAX_SHARD_STEPS = 2000
SCRIPTED_STEP_S, HALF_PLANNED_STEP_S, UPDATE_S = 0.0014, 0.0155, 0.12  # a step, one of which the half is planned, an update [s]
PLANNED_EPISODE_S, UNPLANNED_EPISODE_S, ORACLE_EPISODE_S = 12.0, 0.5, 200.0  # [s]
AGENT_STEP_S = {"sac": 0.018, "ppo": 0.0022, "dyna": 0.003}  # of training agents [s]


def run_experiment(config: ExperimentConfig, path: Path, workers: int, console: Console, cache: Cache | None = None) -> Path:
    """The whole experiment in `path`; gives the report's path. What `cache` holds of it is not made again."""
    with lock_directory(path):
        start_or_resume(config, path, console)
        if cache is not None and RESUMPTIONS_KEY in read_json(path / "versions.json"):
            cache = cache.make_read_only_view()  # what others made here must not pass for what this code makes
        pipeline = Pipeline(config, path, workers, console, cache)
        for run_step in (pipeline.collect, pipeline.train, pipeline.evaluate, pipeline.measure_open_loop_errors):
            run_step()
            record_version_changes(path, console)
        planner_specs = {method.label: method.make_policy for method in MethodSet(config, path).make_all() if method.model}
        with show_progress_bar(console, "report") as progress:
            return build_report(path, planner_specs, progress)


class Pipeline:
    """The steps of one run, in the order in which they need each other."""

    def __init__(
        self,
        config: ExperimentConfig,
        path: Path,
        workers: int,
        console: Console,
        cache: Cache | None = None,
        method_names: Sequence[str] = (),
        is_evaluation_only: bool = False,
        first_index: int = 0,
    ) -> None:
        """chosen: arms that play, by name; none: all. evaluating: nothing else will be done, in what is told of progress. first:
        number of the first space of each split."""
        self._config, self._path, self._workers, self._console, self._cache = config, path, workers, console, cache
        self._first_index = first_index
        self._grid, self._methods = TrainingGrid(config, path), MethodSet(config, path, method_names)
        self._run_progress = RunProgress(
            console, {**({} if is_evaluation_only else self._estimate_training_s()), **self._estimate_evaluation_s()}, workers
        )

    def _estimate_training_s(self) -> dict[str, float]:
        """All data and trainings, with about the core-seconds that they take (measured on "tote-push")."""
        config = self._config
        expected_s = {f"collect {split}": SCRIPTED_STEP_S * config.held_out_steps for split in ("val", "test")}
        for round_number, round_ in enumerate(config.rounds, 1):
            expected_s[f"collect round-{round_number}"] = (
                HALF_PLANNED_STEP_S if round_number > 1 else SCRIPTED_STEP_S
            ) * round_.steps
            if round_number < len(config.rounds):
                expected_s[f"train graph-round-{round_number}"] = UPDATE_S * (round_.updates or DEFAULT_ROUND_UPDATES)
        expected_s |= {
            f"train {model_run.name}": UPDATE_S * model_run.config.train.updates for model_run in self._grid.model_runs
        }
        for baseline in config.baselines:
            for seed in config.train_seeds:
                training = self._grid.make_agent_training(baseline, seed)
                expected_s[f"train {training.path.name}"] = (
                    AGENT_STEP_S.get(baseline.name, AGENT_STEP_S["sac"]) * training.config.steps
                )
        return expected_s

    def _estimate_evaluation_s(self) -> dict[str, float]:
        """The same of each arm in each split."""
        config, labels, expected_s = self._config, self._methods.build_factories(), dict[str, float]()
        max_episodes = {model_config.name: model_config.episodes for model_config in config.models if model_config.episodes}
        max_episodes |= {
            baseline_name: max_episodes[config.models[0].name]
            for baseline_name in config.prediction_baselines
            if config.models[0].name in max_episodes
        }
        for split, count in config.episodes.items():
            for label in labels:
                episode_s = PLANNED_EPISODE_S if "+" in label else UNPLANNED_EPISODE_S
                expected_s[f"{split}: {label}"] = episode_s * min(count, max_episodes.get(label.partition("+")[0], count))
            expected_s |= {
                f"{split}: {oracle}": ORACLE_EPISODE_S * min(count, oracle_count)
                for oracle, oracle_count in config.episodes_by_oracle.items()
                if oracle_count
            }
        return expected_s

    def collect(self) -> None:
        """All data, with the models in between that some of it is collected with."""
        config = self._config
        for split in ("val", "test"):
            behaviours = tuple(config.held_out.items())
            steps = config.held_out_steps
            held_out_config = CollectConfig(
                config.scene, steps, config.seed, split, behaviours, shard_steps=min(MAX_SHARD_STEPS, steps)
            )
            self._collect_dataset(split, held_out_config, None)
        planner_path = None
        for round_number, round_ in enumerate(config.rounds, 1):
            seed = config.seed + 1000 * round_number
            collect_config = CollectConfig(
                config.scene,
                round_.steps,
                seed,
                "train",
                tuple(round_.behaviours.items()),
                config.variations,
                min(MAX_SHARD_STEPS, round_.steps),
                first_layout=10_000 * round_number,
            )
            self._collect_dataset(f"round-{round_number}", collect_config, planner_path)
            if round_number < len(config.rounds):
                training = self._grid.make_collection_model_training(round_number)
                self._run_trainings([training], 1)
                planner_path = training.path

    def train(self) -> None:
        """The models and agents that are compared; those that learn in a model when it is there."""
        config = self._config
        model_trainings = [self._grid.make_model_training(model_run) for model_run in self._grid.model_runs]
        agent_trainings = {
            baseline: [self._grid.make_agent_training(baseline, seed) for seed in config.train_seeds]
            for baseline in config.baselines
        }
        model_free_trainings = [
            training
            for baseline, trainings in agent_trainings.items()
            if baseline.name not in MODEL_BASED
            for training in trainings
        ]
        longest_trainings_first: list[Training] = [*model_trainings[:1], *model_free_trainings, *model_trainings[1:]]
        self._run_trainings(longest_trainings_first, self._workers)
        self._run_trainings(
            [
                training
                for baseline, trainings in agent_trainings.items()
                if baseline.name in MODEL_BASED
                for training in trainings
            ],
            self._workers,
        )

    def _run_trainings(self, trainings: Sequence[Training], workers: int) -> None:
        def mark_done(training: Training, duration_s: float) -> None:
            self._run_progress.mark_done(f"train {training.path.name}", duration_s)

        train_all(trainings, self._path / COSTS_DIR, workers, self._console, self._cache, mark_done)

    def _collect_dataset(self, name: str, collect_config: CollectConfig, planner_path: Path | None) -> None:
        config = self._config
        search, search_config = config.search, config.collection_planner
        planner_spec = (
            PlannerSpec(config.scene, str(planner_path), search, search_config, is_compiled=config.compile_models)
            if planner_path
            else None
        )
        data_path, cost_file = self._path / "data" / name, self._path / COSTS_DIR / f"collect {name}.json"
        content = {"collect": asdict(collect_config), "planner": planner_spec and planner_spec.describe_content()}
        if self._cache:
            self._cache.restore_directory(content, data_path, cost_file)
        with show_progress_bar(self._console, f"collect {name}") as progress:
            collect(
                collect_config,
                data_path,
                self._workers,
                extra_behaviours={"planner": planner_spec} if planner_spec else {},
                tags={"planner": planner_path.name} if planner_path else {},
                progress=progress,
                on_cost=partial(add_cost, cost_file),
            )
        if self._cache and cost_file.exists():
            self._cache.store(content, list_files(data_path), read_cost(cost_file))
        self._run_progress.mark_done(f"collect {name}")

    def evaluate(self) -> None:
        """The oracles last: they take as long as all others together."""
        config = self._config
        self._print_missing_methods()
        for methods in (self._methods.make_all(), self._methods.make_oracles()):
            for split, count in config.episodes.items():
                episode_specs = make_episode_specs(
                    config.name, config.evaluation_scene, split, count, config.seed, first_index=self._first_index
                )
                for method in methods:
                    with show_progress_bar(self._console, f"{split}: {method.label}") as progress:
                        results_path = self._path / "results" / method.name
                        evaluate(method, episode_specs[: method.max_episodes], results_path, self._workers, progress, self._cache)
                    self._run_progress.mark_done(f"{split}: {method.label}")

    def _print_missing_methods(self) -> None:
        for name, reason in self._methods.find_missing_external_methods().items():
            self._console.print(f"[yellow]{name} does not play: {escape(reason)}[/]", soft_wrap=True)

    def evaluate_layout(self, layout: Layout) -> list[dict[str, Any]]:
        """Every arm once in a space of the user's own."""
        self._print_missing_methods()
        episode_spec = EpisodeSpec(
            self._config.name, self._config.evaluation_scene.name, f"own-{layout.id}", 0, self._config.seed, layout
        )
        results = []
        for method in (*self._methods.make_all(), *self._methods.make_oracles()):
            with show_progress_bar(self._console, f"{layout.name or layout.id}: {method.label}") as progress:
                results += evaluate(method, [episode_spec], self._path / "results" / method.name, self._workers, progress)
        return results

    def measure_open_loop_errors(self) -> None:
        """Of the run's models and its guests, those that were not measured yet; and of a yardstick."""
        file = self._path / "fidelity.json"
        records = list(read_json(file)) if file.exists() else []
        seed = self._config.train_seeds[0]
        run_models = {
            model_config.name: self._grid.make_model_training(ModelRun(model_config, seed)).path
            for model_config in self._config.models
        }
        model_paths = {
            **run_models,
            **{
                name: Path(external_model["path"])
                for name, external_model in self._methods.read_external_models().items()
                if not self._methods.find_model_fault(external_model)
            },
        }
        recorded_names = {record["model"] for record in records}
        missing_paths = {name: path for name, path in model_paths.items() if name not in recorded_names}
        if not missing_paths and ConstantVelocity.name in recorded_names:
            return
        windows = Windows(Dataset.open(self._path / "data" / "test").episodes())
        for name, path in missing_paths.items():
            errors = measure_open_loop_error(load_checkpoint(path, self._config.scene), windows)
            records += [{**record, "model": name} for record in to_records(errors)]
        records += (
            to_records(measure_open_loop_error(ConstantVelocity(), windows))
            if ConstantVelocity.name not in recorded_names
            else []
        )
        write_json(file, records)
