"""Recipe + dataset -> many trainings of it with other values, and the best of them as a recipe; with Optuna.

recipe.yaml      what is searched
study.db         Optuna's trials, unless they are kept elsewhere
trials/0007/     the run of each trial that was trained here
trials.csv  report.html  best.yaml     what came of it so far, written anew after every trial

A trial is a training like any other and goes on from its last checkpoint. Who trains it holds its claim, a lock that
dies with the process; so one that a killed process left behind is told from one that is being trained elsewhere.
"""

import json
import math
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from segsmith.data.dataset import Dataset
from segsmith.errors import ModelError, RecipeError, RunError, listed
from segsmith.files import held, write_text
from segsmith.modeling.run import FREE, Run, differing_options, flat_options
from segsmith.modeling.train import check_recipe, train
from segsmith.modeling.training import Step
from segsmith.recipe import Recipe, Values
from segsmith.recipe_files import load_recipe, override, to_yaml
from segsmith.tuning.search_report import Study, Trial, label, write_report

ALIKE = ("seed", "folds", "decide", "data.classes", "data.exclusive", "train.select_by", "data.sources")
"""Keys, and what is below them, that scores would not be of the same images, or not the same scores, with."""
ALIKE_FOR_CHIPS = ("data.input_hw", "data.fit", "data.scales", "data.gsd_m", "data.blank_most", "data.stride")
WITHOUT_EFFECT = ("name", "predict", "search", "train.workers", "train.cache", "train.augment_on",
                  "train.checkpoint_minutes", "train.keep_every", "train.keep_best", "train.keep_best_by")  # fmt: skip
OPENINGS = 6
BUSY = ("OperationalError", "IntegrityError", "ProgrammingError")
"""Times a storage is opened, and what says that another process may be making its tables."""
PLACE, WHY = "place", "why"
"""What is noted of a trial: the folder that its run lies in, and why it has no score."""


def search(
    dataset: Path,
    recipe: Recipe,
    folder: Path,
    *,
    storage: str | None = None,
    name: str = "segsmith",
    watch: Callable[[Step], None] = lambda step: None,
    say: Callable[[str], None] = print,
) -> Study:
    """Train the recipe with values of its `search.over` until there are `search.trials` trials, and write the best.

    Called again, it goes on: trials that were stopped from their last checkpoint, in their own run folders, and no
    other twice. Several processes may call it on one folder, or on one `storage` (any URL that Optuna takes) with
    folders of their own: trials are numbered there, and each number is trained once. What a trial tries is a function
    of the recipe's seed, its number, and, for tpe, the trials before it.

    A trial scores what its run is selected by, on the validation fold, of the weights it keeps. One whose recipe is
    refused or whose training explodes fails, and says why. Raises RecipeError for values that no recipe takes, before
    anything is trained; RunError for a folder or study of another search; and like `train`.
    """
    if recipe.search is None:
        raise RecipeError("the recipe has no search; say what to try: search: {over: {KEY: [VALUE, ...]}}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("a search trains each network in one process; start the command several times, not by torchrun")
    return _Search(dataset, recipe, folder, storage, name, watch, say).go()


class _GivenUp(Exception):  # noqa: N818 (it is no error)
    """The pruner sees no use in going on with a trial."""


class _Grid(optuna.samplers.BaseSampler):
    """The n-th combination for trial n. Optuna's own GridSampler draws one of those left, which two processes may do at
    the same time."""

    def __init__(self, space: Mapping[str, BaseDistribution]):
        self.combinations = list(product(*([(key, value) for value in _all(of)] for key, of in space.items())))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return dict(self.combinations[trial.number])[param_name]


@dataclass(frozen=True)
class _Claimed:
    """A trial that no other process can train while this one lives."""

    trial_id: int
    number: int


class _Search:
    def __init__(
        self,
        dataset: Path,
        recipe: Recipe,
        folder: Path,
        url: str | None,
        name: str,
        watch: Callable[[Step], None],
        say: Callable[[str], None],
    ):
        assert recipe.search is not None
        self.dataset, self.recipe, self.folder, self.watch, self.say = dataset, recipe, folder, watch, say
        self.options = recipe.search
        self.space = {key: distribution(recipe, key, values) for key, values in self.options.over.items()}
        self._check()
        fingerprint = Dataset.open(dataset).fingerprint
        grid = self.options.sampler == "grid"
        self.budget = len(_Grid(self.space).combinations) if grid else self.options.trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with held(folder, "folder of a search", wait=True):
            self._begin()
            self.place = self._place()
            self.storage = _opened(url or f"sqlite:///{folder.resolve() / 'study.db'}", url)
            self.name = name
            self.study_id = self._study(fingerprint)

    def go(self) -> Study:
        while True:
            with self._next() as claimed:
                if claimed is None:
                    break
                self._train(claimed)
            self._write()
        found = self._write()
        if not found.finished:
            reasons = [f"trial {trial.number}: {trial.why}" for trial in found.trials if trial.why]
            raise RunError(f"{self.folder}: no trial came to a score\n{listed(reasons)}" if reasons else
                           f"{self.folder}: no trial has a score yet; others are at work")  # fmt: skip
        return found

    # before anything is trained

    def _check(self) -> None:
        """Raise RecipeError or ModelError unless every choice, and both ends of each range, make a recipe."""
        chips = self.recipe.data.fit == "chip"
        for key in self.options.over:
            if _is_of(key, (*ALIKE, *(ALIKE_FOR_CHIPS if chips else ()))):
                raise RecipeError(f"search.over.{key}: trials with different values would not have scores to compare")
            if _is_of(key, WITHOUT_EFFECT):
                raise RecipeError(f"search.over.{key}: changes nothing that a trial is scored by")
        check_recipe(self.recipe.model_copy(update={"search": None}))
        for key, values in self.options.over.items():
            for value in values.choices or (values.low, values.high):
                try:
                    check_recipe(self._with({key: value}))
                except (RecipeError, ModelError) as error:
                    raise RecipeError(f"search.over.{key}: no training with {label(value)}: {error}") from None

    def _with(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial. Raises RecipeError."""
        plain = self.recipe.model_copy(update={"search": None})
        return override(plain, [f"{key}={json.dumps(value)}" for key, value in values.items()])

    def _begin(self) -> None:
        """Note in the folder what is searched, or check that it is the same; more trials may be asked for."""
        file = self.folder / "recipe.yaml"
        if file.is_file():
            was, now = self._told(load_recipe(file)), self._told(self.recipe)
            if differing := differing_options(was, now):
                raise RunError(
                    f"{self.folder}: holds a search of another recipe:\n{listed(differing)}\nchoose another folder, or "
                    "say the same recipe"
                )
        elif foreign := sorted(path.name for path in self.folder.iterdir() if not path.name.startswith(".")):
            raise RunError(f"{self.folder}: holds {foreign[0]}, and no search; choose a new folder")
        write_text(file, to_yaml(self.recipe, explained=True))

    def _told(self, recipe: Recipe) -> dict[str, Any]:
        """What makes a search the same one, by dotted key."""
        told = flat_options(recipe.model_dump(mode="json"))
        return {key: value for key, value in told.items() if key not in FREE | {"search.trials"}}

    def _place(self) -> str:
        """What this folder is called in the storage, which others may share; the same for all processes here."""
        file = self.folder / ".place"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex)
        return file.read_text()

    def _study(self, fingerprint: str) -> int:
        """The number of the study in the storage, made if it is not there. Raises RunError for another search's."""
        study = optuna.create_study(
            storage=self.storage, study_name=self.name, direction="maximize", load_if_exists=True
        )
        told = json.dumps(self._told(self.recipe), sort_keys=True)
        for what, now in (("recipe", told), ("dataset", fingerprint)):
            if study.user_attrs.setdefault(what, now) != now:
                raise RunError(
                    f"the study '{self.name}' is of another {what}; choose another --study, or another folder"
                )
            study.set_user_attr(what, now)
        return self.storage.get_study_id_from_name(self.name)

    # trials

    @contextmanager
    def _next(self) -> Iterator[_Claimed | None]:
        """The next trial to train, held until it is told of: one that was left behind here, else a new one."""
        for trial in self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(PLACE) != self.place:
                continue
            with self._claim(trial.number) as ours:
                if ours and not self._is_over(trial._trial_id):
                    self.say(f"trial {trial.number} goes on")
                    yield _Claimed(trial._trial_id, trial.number)
                    return
        while len(self.storage.get_all_trials(self.study_id, deepcopy=False)) < self.budget:
            # noted with its birth: a trial without its place could not be taken up again
            blank = optuna.create_trial(state=TrialState.RUNNING, user_attrs={PLACE: self.place})
            trial_id = self.storage.create_new_trial(self.study_id, blank)
            number = self.storage.get_trial_number_from_id(trial_id)
            with self._claim(number) as ours:
                if number >= self.budget:  # another process made the last one at the same time
                    self._fail(trial_id, "one more than was asked for")
                elif ours and not self._is_over(trial_id):  # another process may have been faster to take it up
                    yield _Claimed(trial_id, number)
                    return
        yield None

    def _is_over(self, trial_id: int) -> bool:
        return bool(self.storage.get_trial(trial_id).state.is_finished())

    @contextmanager
    def _claim(self, number: int) -> Iterator[bool]:
        """Whether no other process trains a trial; if so, none can until the block ends."""
        with ExitStack() as claim:
            try:
                claim.enter_context(held(self.folder / ".claims" / f"{number:04}", "claim"))
                ours = True
            except RunError:
                ours = False
            yield ours

    def _train(self, claimed: _Claimed) -> None:
        """Train a trial to its end, unless the pruner or an error ends it before, and tell the study."""
        number = claimed.number
        study = optuna.load_study(study_name=self.name, storage=self.storage, pruner=self._pruner())
        study.sampler = self._sampler(number, 0)
        trial = optuna.Trial(study, claimed.trial_id)
        values = {}
        for place, key in enumerate(self.space):
            study.sampler = self._sampler(number, place)
            values[key] = self._suggested(trial, key)
        what = f"trial {number}"
        self.say(f"{what} of {self.budget}: {', '.join(f'{key}={_short(value)}' for key, value in values.items())}")
        run = Run(self.folder / "trials" / f"{number:04}")

        def report(rows: pd.DataFrame, metric: str) -> None:
            known = self.storage.get_trial(claimed.trial_id).intermediate_values
            for epoch, score in enumerate(rows[metric].tolist(), start=1):
                if epoch not in known:
                    trial.report(score, epoch)

        try:
            recipe = self._with(values)

            def watched(step: Step) -> None:
                self.watch(step)
                if step.epoch_is_over and step.last_epoch is not None:
                    # a kill may have come between an epoch's checkpoint and its report, so all epochs are looked at
                    rows = pd.concat([_rows(run.folder / "metrics.csv"), pd.DataFrame([step.last_epoch])])
                    report(rows.drop_duplicates(["stage", "epoch"]), recipe.selected_by)
                    if step.images_seen < step.images_in_all and trial.should_prune():
                        raise _GivenUp

            train(self.dataset, recipe, run.folder, watch=watched)
        except _GivenUp:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            self.say(f"{what}: given up after {len(_rows(run.folder / 'metrics.csv')) + 1} epochs")
        except (RecipeError, ModelError) as error:
            self._fail(claimed.trial_id, str(error))
            self.say(f"{what}: failed: {str(error).splitlines()[0]}")
        else:
            score = score_of(run, recipe)
            report(_rows(run.folder / "metrics.csv"), recipe.selected_by)
            study.tell(trial, score, skip_if_finished=True)
            self.say(f"{what}: {recipe.selected_by} {score:.4f}")

    def _sampler(self, number: int, place: int) -> optuna.samplers.BaseSampler:
        """One whose draws are counted by the trial's number and the key's place: one that lives on would draw the same
        in every process that begins, and other values for the keys that a kill left to be drawn."""
        seed = int(np.random.default_rng([self.recipe.seed, number, place]).integers(2**31))
        match self.options.sampler:
            case "grid":
                return _Grid(self.space)
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case _:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # beside trials that still run

    def _pruner(self) -> optuna.pruners.BasePruner:
        match self.options.pruner:
            case "median":
                return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=self.options.prune_after)
            case "halving":
                return optuna.pruners.SuccessiveHalvingPruner(min_resource=self.options.prune_after)
            case _:
                return optuna.pruners.NopPruner()

    def _suggested(self, trial: optuna.Trial, key: str) -> Any:
        """The value of a key in a trial; of one that was begun before, the same again."""
        of = self.space[key]
        if isinstance(of, CategoricalDistribution):
            return self._value(key, trial.suggest_categorical(key, of.choices))
        if isinstance(of, IntDistribution):
            return trial.suggest_int(key, of.low, of.high, step=of.step, log=of.log)
        assert isinstance(of, FloatDistribution)
        return trial.suggest_float(key, of.low, of.high, step=of.step, log=of.log)

    def _value(self, key: str, suggested: Any) -> Any:
        choices = self.options.over[key].choices
        if choices is None:
            return suggested
        return next(value for value in choices if label(value) == suggested)

    def _fail(self, trial_id: int, why: str) -> None:
        self.storage.set_trial_user_attr(trial_id, WHY, why)
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    # what came of it

    def _write(self) -> Study:
        """Write table, report and the best recipe, of all trials that any process told of."""
        with held(self.folder, "folder of a search", wait=True):
            found = self._found()
            table = pd.DataFrame(
                [
                    {
                        "trial": trial.number,
                        "state": trial.state,
                        "score": trial.score,
                        "epochs": len(trial.scores),
                        **{key: label(value) for key, value in trial.values.items()},
                        "why": trial.why,
                    }
                    for trial in found.trials
                ]
            )
            write_text(self.folder / "trials.csv", table.to_csv(index=False))
            if found.finished:
                best = found.best
                said = (
                    f"# trial {best.number}, the best of {len(found.finished)}: {found.metric} {best.score:.4f} on the "
                    "validation fold\n"
                )
                write_text(self.folder / "best.yaml", said + to_yaml(self._with(best.values), explained=True))
                write_report(found, self.folder / "report.html")
        return found

    def _found(self) -> Study:
        trials = [self._told_of(trial) for trial in self.storage.get_all_trials(self.study_id, deepcopy=False)]
        study = Study(self.recipe, trials)
        if len({trial.score for trial in study.finished}) >= 4 and len(self.space) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = optuna.load_study(study_name=self.name, storage=self.storage)
                study.importance.update(optuna.importance.get_param_importances(loaded))
        return study

    def _told_of(self, trial: FrozenTrial) -> Trial:
        complete = trial.state == TrialState.COMPLETE
        return Trial(
            number=trial.number,
            state=trial.state.name.lower(),
            score=float(trial.value) if complete and trial.value is not None else math.nan,
            values={key: self._value(key, trial.params[key]) for key in self.space if key in trial.params},
            scores=tuple(score for _, score in sorted(trial.intermediate_values.items())),
            why=str(trial.user_attrs.get(WHY, "")),
        )


def distribution(recipe: Recipe, key: str, values: Values) -> BaseDistribution:
    """What Optuna draws from for a key; of choices their labels. Raises RecipeError for two that look the same."""
    if values.choices is not None:
        labels = [label(value) for value in values.choices]
        if twice := next((text for text in labels if labels.count(text) > 1), None):
            raise RecipeError(f"search.over.{key}: {twice} stands there twice")
        return CategoricalDistribution(labels)
    assert values.low is not None
    assert values.high is not None
    if _only_whole(recipe, key, float(values.low), float(values.high)):
        if not all(float(number).is_integer() for number in (values.low, values.high, values.step or 1.0)):
            raise RecipeError(f"search.over.{key}: takes whole numbers; low, high and step must be such")
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(float(values.low), float(values.high), log=values.log, step=values.step)


def _only_whole(recipe: Recipe, key: str, low: float, high: float) -> bool:
    """Whether a key takes whole numbers alone: whether a recipe is refused for a fraction, and not for the number
    before it."""
    fraction = low + 0.381966 * (high - low)
    try:
        override(recipe.model_copy(update={"search": None}), [f"{key}={json.dumps(fraction)}"])
    except RecipeError as error:
        return "integer" in str(error)
    return False


def score_of(run: Run, recipe: Recipe) -> float:
    """What the weights that a finished run keeps scored on the validation fold; of snapshots, the best epoch."""
    metric = recipe.selected_by
    if recipe.train.keep == "averaged":
        return float(_rows(run.folder / "averaged.csv")[metric].iloc[-1])
    scores = _rows(run.folder / "metrics.csv")[metric]
    return float(scores.iloc[-1] if recipe.train.keep == "last" else scores.max())


def _opened(url: str, said: str | None) -> optuna.storages.BaseStorage:
    """A storage of trials. Raises RunError if it cannot be opened."""
    # wait for the other processes' writes
    engine: dict[str, Any] = {"connect_args": {"timeout": 120}} if url.startswith("sqlite:") else {}
    for left in reversed(range(OPENINGS)):
        try:
            if engine:
                return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=engine))
            return optuna.storages.get_storage(url)
        except Exception as error:  # whatever database drivers raise
            if left and type(error).__name__ in BUSY:
                time.sleep(0.5)
                continue
            told = f"--storage {said.split('://')[0]}://..." if said else url  # there may be a password in it
            raise RunError(
                f"{told}: cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]})"
            ) from error
    raise AssertionError("the last opening returns or raises")


def _rows(file: Path) -> pd.DataFrame:
    return pd.read_csv(file) if file.is_file() else pd.DataFrame()


def _is_of(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _all(of: BaseDistribution) -> list[Any]:
    """Every value of a distribution that has finitely many."""
    if isinstance(of, CategoricalDistribution):
        return list(of.choices)
    assert isinstance(of, IntDistribution | FloatDistribution)
    assert of.step is not None
    steps = int((of.high - of.low) / of.step + 1e-9)
    return [of.low + number * of.step for number in range(steps + 1)]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label(value)
