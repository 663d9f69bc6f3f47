"""Commands of training: rates, batches and options found, runs trained, searched and combined."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segsmith.cli.app import app
from segsmith.cli.judging import evaluate, print_decision
from segsmith.cli.options import DatasetFolder, Overrides, RecipeOption, numbers_of
from segsmith.cli.printed import RANK, TrainingLine, out, say, warn
from segsmith.errors import SegsmithError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from segsmith.recipe import Recipe
    from segsmith.tuning.lighter import Part


@app.command()
def find_rate(
    dataset: DatasetFolder,
    recipe: RecipeOption,
    overrides: Overrides = None,
    low: Annotated[float, typer.Option(help="Learning rate to begin with.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Learning rate to end with, unless the loss diverges before.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Steps of a test.")] = 100,
    decay: Annotated[
        list[float] | None,
        typer.Option(help="Weight decay to compare with the recipe's; may be repeated. 0, 1e-4 and 1e-2 if unset."),
    ] = None,
    page: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("rates.html"),
) -> None:
    """Find a learning rate and a weight decay by short trainings whose rate rises."""
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from segsmith.tuning.find_rate import DECAYS
    from segsmith.tuning.find_rate import find_rate as run_finder

    found = run_finder(dataset, loaded, page, low=low, high=high, steps=steps, decays=decay or DECAYS)
    for test in found.tests:
        out.print(
            f"weight decay {test.decay:g}: loss falls fastest at a rate of {test.steepest:.2g}, is least "
            f"({test.smoothed.min():.4f}) at {test.rates[test.lowest]:.2g}, of which a tenth is {test.tenth:.2g}"
        )
    out.print(" ".join(found.overrides), style="bold")
    out.print(f"page {page}")


@app.command()
def find_batch(
    dataset: DatasetFolder,
    recipe: RecipeOption,
    overrides: Overrides = None,
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="Memory it may take; without a GPU 80 % of what is free if unset."),
    ] = None,
) -> None:
    """Find the largest batch that fits into memory, and how fast each is."""
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from segsmith.tuning.find_batch import Tried
    from segsmith.tuning.find_batch import find_batch as run_finder

    def tell(tried: Tried) -> None:
        made = f"{tried.images_per_second:.1f} images/s, " if tried.images_per_second else ""
        how = "fits" if tried.fits else "does not fit"
        say(f"batch {tried.batch:>4}: {made}{tried.gib:.2f} GiB{'' if made else ' to be expected'}, {how}")

    found = run_finder(dataset, loaded, memory_gib=memory, tell=tell)
    out.print(f"train.batch_size={found.batch} train.accumulate=1", style="bold")


def _within(dataset: Path, recipe: "Recipe", run: Path, budget: str, lighter: "Collection[Part]") -> "Recipe":
    """The recipe as it fits into a budget; of a run that has begun, as it was fitted then."""
    from segsmith.modeling.run import Run
    from segsmith.tuning.budget import as_fitted_before, fit_to, seconds_of

    seconds = seconds_of(budget)
    if (run / "recipe.yaml").exists():
        return as_fitted_before(recipe, Run(run).recipe(), lighter)
    found = fit_to(dataset, recipe, seconds, lighter)
    for change in found.changes:
        out.print(change)
    for number, stage in enumerate(found.stages, start=1):
        epochs = f"{stage.epochs} epochs" if stage.epochs > 1 else "1 epoch"
        images = f" of {stage.images_per_epoch:,} images" if stage.images_per_epoch else ""
        out.print(
            f"stage {number}: {epochs}{images}, {stage.images_per_second:.1f} images/s here, "
            f"{stage.epoch_seconds:.0f} s a whole epoch"
        )
    takes = f"{found.seconds / 60:.0f} minutes" if found.seconds >= 120 else f"{found.seconds:.0f} seconds"
    out.print(f"about {takes} in all, {found.passes:.1f} passes over the training images")
    if found.passes < found.wanted:
        hint = "give it more time" if lighter else "give it more time, or let a lighter network be found with --fit"
        out.print(f"  fewer than {found.wanted:.3g} are few: {hint}")
    return found.recipe


def _may_be_lighter(overrides: list[str]) -> "list[Part]":
    """What --fit may change: what nobody said on the command line."""
    said = {word.partition("=")[0].strip() for word in overrides}
    parts: list[Part] = []
    if not said & {"network", "network.encoder", "network.encoder_weights"}:
        parts.append("encoder")
    if not said & {"data", "data.fit", "data.resize_hw"} and not any(key.endswith("input_hw") for key in said):
        parts.append("size")
    return parts


def _tell_next_hour(run: Path, *, or_why_not: bool) -> None:
    if RANK:
        return
    from segsmith.modeling.next_hour import next_hour

    found = next_hour(run)
    if found.unsaid is None or or_why_not:
        out.print(str(found))


@app.command()
def train(
    dataset: DatasetFolder,
    run: Annotated[Path, typer.Argument(help="Run folder; one that exists is continued.", show_default=False)],
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="Name of a shipped recipe, or a YAML file.")],
    overrides: Overrides = None,
    folds: Annotated[
        Literal["all"] | None,
        typer.Option(help="Train once for each fold that is not held out, as folds.validation=all; decide, evaluate."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share each batch: one for each GPU; torchrun starts them too.")
    ] = 1,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it may take here, such as 20m: as many epochs as fit, measured."),
    ] = None,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="With --budget: a lighter encoder or a smaller input too, where epochs are few."),
    ] = False,
) -> None:
    """Train, or go on training where a run was stopped."""
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, [*(overrides or []), *(["folds.validation=all"] if folds else [])])
    if budget is not None:
        if processes > 1 or "RANK" in os.environ:
            raise SegsmithError("--budget measures one process; leave out --processes, or set epochs yourself")
        loaded = _within(dataset, loaded, run, budget, _may_be_lighter(overrides or []) if fit else [])
    elif fit:
        raise SegsmithError("--fit fits a training into a time; say how long with --budget, such as --budget 20m")
    if processes > 1 and "RANK" not in os.environ:
        from segsmith.modeling.launch import launch

        raise typer.Exit(launch(sys.argv[1:], processes))
    from segsmith.modeling.bundle import Bundle
    from segsmith.modeling.train import train as run_training

    watch = TrainingLine()
    done = run_training(dataset, loaded, run, watch=watch)
    _tell_next_hour(run, or_why_not=budget is not None)
    if folds and RANK == 0 and Bundle.read(done.bundle).decision.metric is None:
        from segsmith.decision.decide import decide

        print_decision(run, decide(run, say=warn))
        evaluate(run)
    else:
        out.print(f"bundle {done.bundle}; next: segsmith decide {run}")


@app.command()
def search(
    recipe: Annotated[str, typer.Argument(help="YAML file of a recipe with a search: group.", show_default=False)],
    dataset: DatasetFolder,
    to: Annotated[Path, typer.Option(help="Folder of the search; one that exists is continued.", show_default=False)],
    overrides: Overrides = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Where Optuna keeps the trials; study.db in the folder if unset.")
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the study in the storage.")] = "segsmith",
) -> None:
    """Train a recipe with other values, or go on doing so; write the best as a recipe."""
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from segsmith.tuning.search import search as run_search

    found = run_search(dataset, loaded, to, storage=storage, name=study, watch=TrainingLine(), say=say)
    for trial in found.finished[:5]:
        out.print(f"{found.metric} {trial.score:.4f}  trial {trial.number}  " + _values(trial.values))
    for key, share in found.importance.items():
        out.print(f"  {share:4.0%} of what told good trials from others was {key}")
    out.print(f"best recipe {to / 'best.yaml'}, report {to / 'report.html'}; next: segsmith decide "
              f"{to / 'trials' / f'{found.best.number:04}'}")  # fmt: skip


@app.command()
def combine(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Trained runs.", show_default=False)],
    to: Annotated[Path, typer.Option(help="New run folder to write; whole or not at all.", show_default=False)],
    weights: Annotated[
        str | None,
        typer.Option(metavar="2,1,1|fit", help="One for each run; fit finds them on the validation images."),
    ] = None,
    average: Annotated[
        Literal["mean", "geometric", "median"], typer.Option(help="What is taken of the runs' probabilities.")
    ] = "mean",
) -> None:
    """Combine runs into one, which averages what their networks say."""
    from segsmith.decision.combine import combine as run_combination

    said = numbers_of("--weights", weights) if weights not in (None, "fit") else None
    found = run_combination(runs, to, weights="fit" if weights == "fit" else said, average=average)
    for run, weight in zip(runs, found.weights, strict=True):
        out.print(f"{run}: {f'weight {weight:.3f}' if weight else 'left out, its weight is 0'}")
    out.print(f"{found.validation:,} validation images in common, {found.held_out:,} held out")
    out.print(f"bundle {to / 'bundle.safetensors'}; next: segsmith decide {to}")


def _values(values: "Mapping[str, object]") -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
