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
from experiments.cache import Cache, files_in
from experiments.compute_costs import LEDGER, add, spent
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.methods.build import Arms
from experiments.methods.grid import ROUND_UPDATES, Fit, Matrix
from experiments.methods.method import Trial, trials_of
from experiments.methods.training import Training, train_all
from experiments.progress import Whole, bar
from experiments.report.build import build_report
from experiments.versions import SINCE, begin, go_on
from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.layout import Layout
from sim.utils.files import lock_directory, read_json, write_json
from worldmodels.assessment.open_loop import ConstantVelocity, measure_open_loop_error, to_records
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.windows import Windows

SHARD_STEPS = 2000
COLLECTING, PLANNING, UPDATE = 0.0014, 0.0155, 0.12  # a step, one of which the half is planned, an update [s]
EPISODE, UNPLANNED_EPISODE, ORACLE_EPISODE = 12.0, 0.5, 200.0  # [s]
STEP = {"sac": 0.018, "ppo": 0.0022, "dyna": 0.003}  # of training agents [s]


def run(config: ExperimentConfig, path: Path, workers: int, console: Console, cache: Cache | None = None) -> Path:
    """The whole experiment in `path`; gives the report's path. What `cache` holds of it is not made again."""
    with lock_directory(path):
        begin(config, path, console)
        if cache is not None and SINCE in read_json(path / "versions.json"):
            cache = cache.closed()  # what others made here must not pass for what this code makes
        steps = Steps(config, path, workers, console, cache)
        for step in (steps.collect, steps.train, steps.evaluate, steps.measure_fidelity):
            step()
            go_on(path, console)
        planners = {arm.label: arm.factory for arm in Arms(config, path).all() if arm.model}
        with bar(console, "report") as progress:
            return build_report(path, planners, progress)


class Steps:
    """The steps of one run, in the order in which they need each other."""

    def __init__(
        self,
        config: ExperimentConfig,
        path: Path,
        workers: int,
        console: Console,
        cache: Cache | None = None,
        chosen: Sequence[str] = (),
        evaluating: bool = False,
        first: int = 0,
    ) -> None:
        """chosen: arms that play, by name; none: all. evaluating: nothing else will be done, in what is told of progress. first:
        number of the first space of each split."""
        self._config, self._path, self._workers, self._console, self._cache = config, path, workers, console, cache
        self._first = first
        self._matrix, self._arms = Matrix(config, path), Arms(config, path, chosen)
        self._whole = Whole(console, {**({} if evaluating else self._making()), **self._playing()}, workers)

    def _making(self) -> dict[str, float]:
        """All data and trainings, with about the core-seconds that they take (measured on "tote-push")."""
        config = self._config
        cells = {f"collect {split}": COLLECTING * config.held_out_steps for split in ("val", "test")}
        for number, round_ in enumerate(config.rounds, 1):
            cells[f"collect round-{number}"] = (PLANNING if number > 1 else COLLECTING) * round_.steps
            if number < len(config.rounds):
                cells[f"train graph-round-{number}"] = UPDATE * (round_.updates or ROUND_UPDATES)
        cells |= {f"train {fit.name}": UPDATE * fit.plan.train.updates for fit in self._matrix.fits}
        for plan in config.baselines:
            for seed in config.train_seeds:
                training = self._matrix.agent(plan, seed)
                cells[f"train {training.path.name}"] = STEP.get(plan.name, STEP["sac"]) * training.config.steps
        return cells

    def _playing(self) -> dict[str, float]:
        """The same of each arm in each split."""
        config, arms, cells = self._config, self._arms.makers(), dict[str, float]()
        limits = {plan.name: plan.episodes for plan in config.models if plan.episodes}
        limits |= {name: limits[config.models[0].name] for name in config.assumptions if config.models[0].name in limits}
        for split, count in config.episodes.items():
            for arm in arms:
                each = EPISODE if "+" in arm else UNPLANNED_EPISODE
                cells[f"{split}: {arm}"] = each * min(count, limits.get(arm.partition("+")[0], count))
            cells |= {f"{split}: {arm}": ORACLE_EPISODE * min(count, most) for arm, most in config.oracles.items() if most}
        return cells

    def collect(self) -> None:
        """All data, with the models in between that some of it is collected with."""
        config = self._config
        for split in ("val", "test"):
            behaviours = tuple(config.held_out.items())
            steps = config.held_out_steps
            held_out = CollectConfig(config.scene, steps, config.seed, split, behaviours, shard_steps=min(SHARD_STEPS, steps))
            self._collect(split, held_out, None)
        planner = None
        for number, round_ in enumerate(config.rounds, 1):
            seed = config.seed + 1000 * number
            wanted = CollectConfig(
                config.scene,
                round_.steps,
                seed,
                "train",
                tuple(round_.behaviours.items()),
                config.variations,
                min(SHARD_STEPS, round_.steps),
                first_layout=10_000 * number,
            )
            self._collect(f"round-{number}", wanted, planner)
            if number < len(config.rounds):
                training = self._matrix.model_after(number)
                self._train([training], 1)
                planner = training.path

    def train(self) -> None:
        """The models and agents that are compared; those that learn in a model when it is there."""
        config = self._config
        models = [self._matrix.model(fit) for fit in self._matrix.fits]
        agents = {plan: [self._matrix.agent(plan, seed) for seed in config.train_seeds] for plan in config.baselines}
        first = [training for plan, trainings in agents.items() if plan.name not in MODEL_BASED for training in trainings]
        longest_first: list[Training] = [*models[:1], *first, *models[1:]]
        self._train(longest_first, self._workers)
        self._train([one for plan, own in agents.items() if plan.name in MODEL_BASED for one in own], self._workers)

    def _train(self, trainings: Sequence[Training], workers: int) -> None:
        def ended(training: Training, took_s: float) -> None:
            self._whole.done(f"train {training.path.name}", took_s)

        train_all(trainings, self._path / LEDGER, workers, self._console, self._cache, ended)

    def _collect(self, name: str, wanted: CollectConfig, planner: Path | None) -> None:
        config = self._config
        search, how = config.search, config.collecting
        spec = PlannerSpec(config.scene, str(planner), search, how, is_compiled=config.compiled) if planner else None
        to, ledger = self._path / "data" / name, self._path / LEDGER / f"collect {name}.json"
        cell = {"collect": asdict(wanted), "planner": spec and spec.describe_content()}
        if self._cache:
            self._cache.fill(cell, to, ledger)
        with bar(self._console, f"collect {name}") as progress:
            collect(
                wanted,
                to,
                self._workers,
                extra_behaviours={"planner": spec} if spec else {},
                tags={"planner": planner.name} if planner else {},
                progress=progress,
                on_cost=partial(add, ledger),
            )
        if self._cache and ledger.exists():
            self._cache.keep(cell, files_in(to), spent(ledger))
        self._whole.done(f"collect {name}")

    def evaluate(self) -> None:
        """The oracles last: they take as long as all others together."""
        config = self._config
        self._tell_missing()
        for arms in (self._arms.all(), self._arms.oracles()):
            for split, count in config.episodes.items():
                trials = trials_of(config.name, config.played, split, count, config.seed, first=self._first)
                for arm in arms:
                    with bar(self._console, f"{split}: {arm.label}") as progress:
                        to = self._path / "results" / arm.name
                        evaluate(arm, trials[: arm.episodes], to, self._workers, progress, self._cache)
                    self._whole.done(f"{split}: {arm.label}")

    def _tell_missing(self) -> None:
        for name, why in self._arms.missing_guests().items():
            self._console.print(f"[yellow]{name} does not play: {escape(why)}[/]", soft_wrap=True)

    def evaluate_layout(self, layout: Layout) -> list[dict[str, Any]]:
        """Every arm once in a space of the user's own."""
        self._tell_missing()
        trial = Trial(self._config.name, self._config.played.name, f"own-{layout.id}", 0, self._config.seed, layout)
        rows = []
        for arm in (*self._arms.all(), *self._arms.oracles()):
            with bar(self._console, f"{layout.name or layout.id}: {arm.label}") as progress:
                rows += evaluate(arm, [trial], self._path / "results" / arm.name, self._workers, progress)
        return rows

    def measure_fidelity(self) -> None:
        """Of the run's models and its guests, those that were not measured yet; and of a yardstick."""
        file = self._path / "fidelity.json"
        rows = list(read_json(file)) if file.exists() else []
        seed = self._config.train_seeds[0]
        own = {plan.name: self._matrix.model(Fit(plan, seed)).path for plan in self._config.models}
        models = {
            **own,
            **{name: Path(guest["path"]) for name, guest in self._arms.guests().items() if not self._arms.absent(guest)},
        }
        there = {row["model"] for row in rows}
        missing = {name: path for name, path in models.items() if name not in there}
        if not missing and ConstantVelocity.name in there:
            return
        windows = Windows(Dataset.open(self._path / "data" / "test").episodes())
        for name, path in missing.items():
            found = measure_open_loop_error(load_checkpoint(path, self._config.scene), windows)
            rows += [{**row, "model": name} for row in to_records(found)]
        rows += to_records(measure_open_loop_error(ConstantVelocity(), windows)) if ConstantVelocity.name not in there else []
        write_json(file, rows)
