"""Parse -> one library call -> print. Commands stand in the order of the journey; heavy imports stand inside them."""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core
from rich.console import Console

from segsmith.errors import SegsmithError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from segsmith.decision.evaluate import Evaluation, Score
    from segsmith.delivery.predict_rasters import RasterPrediction
    from segsmith.modeling.training import Step
    from segsmith.recipe import Recipe
    from segsmith.types import HW


class Journey(typer.core.TyperGroup):
    """Lists the commands in the order of the journey; groups of commands would stand last otherwise."""

    def list_commands(self, ctx: Any) -> list[str]:
        making = ["demo", "recipe", "inspect", "plan", "chips", "preview", "find-rate", "find-batch", "train", "search"]
        judging = ["combine", "decide", "evaluate", "compare", "runs", "review", "correct", "mine", "label", "teach"]
        return [*making, "cache", *judging, "export", "predict", "check", "serve"]


app = typer.Typer(
    cls=Journey,
    help="From labelled images of rare things to a segmentation model, and from the model to the files to hand in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels would double the time of --help
)
recipe_app = typer.Typer(help="List, show and check recipes: one file per job.", no_args_is_help=True)
RANK = int(os.environ.get("RANK", "0"))
"""Which of several processes that train together this is, as torchrun numbers them; the first one talks."""
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, quiet=RANK > 0)  # names of files are no code

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe options, such as train.stages.0.epochs=3.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that train wrote.", show_default=False)]
SHOWN_KEYS = 6
"""Of the keys by which a run's recipe differs, shown at the most."""
SURE, AGREE = 0.8, 0.8
"""From what confidence and agreement on the soft labels of an image are kept."""
METRIC_HELP = "Metric to tune for, in place of the recipe's."
Cluster = Annotated[
    str | None,
    typer.Option(metavar="local|ADDRESS", help="Spread over Dask workers: here, or of the scheduler at an address."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of --cluster local.")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is written.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=40, help="Made training images.")] = 800,
    seed: Annotated[int, typer.Option(help="Other images, other weights.")] = 0,
) -> None:
    """Run the whole journey on made images of ships; no data needed."""
    from segsmith.journey import demo as run_demo

    watch = TrainingLine()
    done = run_demo(folder, images=images, seed=seed, watch=watch, say=out.print)
    _print_scores(done.evaluation)
    out.print(f"\nDice {done.evaluation.score('mean_dice').value:.4f} on images never trained on")
    out.print(f"files to hand in   {done.prediction.folder}")
    out.print(f"data report        {done.inspection.folder / 'report.html'}")
    out.print(f"run report         {done.report}   <- open this")


app.add_typer(recipe_app, name="recipe")


@app.command()
def inspect(
    raw: Annotated[Path, typer.Argument(help="Raw folder, as it was given; it stays untouched.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="Dataset folder to write; NAME.dataset here by default.")] = None,
    layout: Annotated[
        Literal["rle", "masks", "coco", "vector"] | None,
        typer.Option(help="CSV of run lengths, mask files, COCO JSON or vector files, when several fit."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV or JSON with the labels, when several fit.")] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="CSV of class names: columns class,name, or name,red,green,blue for colour masks."),
    ] = None,
    foreground: Annotated[
        Literal["black", "white"] | None, typer.Option(help="Which of two levels of the masks is the class.")
    ] = None,
    class_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field of vector labels that holds the class.")
    ] = None,
    smallest_file: Annotated[
        int, typer.Option(min=0, metavar="BYTES", help="Leave out labelled images whose file is smaller.")
    ] = 0,
    assume_size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Index the labels alone; all images are of this size.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave out images with this finding, or a file of ids; may be repeated."),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV of image ids and the group each belongs to; folds keep groups whole.")
    ] = None,
    audit: Annotated[
        bool, typer.Option(help="Look at every image for faults and duplicates; without it only index them.")
    ] = True,
) -> None:
    """Index, check and audit a raw folder; write a profile, findings and a report."""
    from segsmith.data.findings import printed
    from segsmith.eda.inspect import inspect as run_inspect

    folder = to or Path(f"{raw.resolve().name}.dataset")
    found = run_inspect(
        raw,
        folder,
        layout=layout,
        labels=labels,
        assume_hw=_size("--assume-size", assume_size) if assume_size else None,
        classes=classes,
        foreground=foreground,
        class_field=class_field,
        exclude=exclude or [],
        smallest_file=smallest_file,
        groups=groups,
        audit=audit,
    )
    profile = found.profile
    recognised, *notes = found.dataset.notes
    out.print(recognised, style="bold")
    for note in notes:
        out.print(f"  {note}")
    if len(profile.classes) > 1:
        out.print("  classes " + ", ".join(f"{name}: {of['images']:,} images" for name, of in profile.classes.items()))
    out.print(
        f"  {profile.labelled:,} labelled image{'' if profile.labelled == 1 else 's'}, "
        f"{profile.empty:,} empty ({profile.empty / max(1, profile.labelled):.1%}), "
        f"{profile.objects:,} object{'' if profile.objects == 1 else 's'}, "
        f"{profile.foreground_share:.2%} of pixels are foreground"
    )
    sizes = sorted(profile.sizes.items(), key=lambda item: -item[1])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    out.print("  sizes " + ", ".join(f"{size}: {count:,}" for size, count in sizes[:3]) + more)
    if profile.labelled and profile.empty == profile.labelled:
        out.print("  all labelled images are empty: there is nothing to learn", style="bold red")
    looked = "findings, worst first" if found.findings else "findings: none" if found.audited else "not audited"
    out.print(looked, style="bold")
    for line in printed(found.findings):
        out.print(f"  {line}")
    out.print(f"dataset {folder}, report {folder / 'report.html'}")


@app.command()
def plan(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Recipe file to write.")] = Path("recipe.yaml"),
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the training may take on this machine.")] = 20,
) -> None:
    """Write a recipe for a dataset of any kind, with the reason for each choice."""
    from segsmith.files import write_text
    from segsmith.modeling.plan import plan as make_plan

    if to.exists():
        raise SegsmithError(f"{to} exists; remove it, or choose another name with --to")
    found = make_plan(dataset, minutes=minutes)
    write_text(to, found.to_yaml())
    for key, reason in found.reasons.items():
        out.print(f"  {key}: {reason}")
    out.print(f"recipe {to}; next: segsmith train {dataset} run --recipe {to}")


@app.command()
def chips(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
    to: Annotated[Path, typer.Argument(help="New folder to write; whole or not at all.", show_default=False)],
    size: Annotated[int, typer.Option(min=1, help="Pixels a side of a chip.")] = 512,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels from one chip to the next; divides the size. Side by side if unset."),
    ] = None,
    scale: Annotated[
        list[float] | None, typer.Option(help="Enlargement at which chips are cut; may be repeated. 1 if unset.")
    ] = None,
    gsd_m: Annotated[float | None, typer.Option(help="Metres a pixel that images are brought to first.")] = None,
    blank_most: Annotated[
        float, typer.Option(min=0, max=1, help="Share of unusable pixels above which an empty chip is left out.")
    ] = 0.5,
    file_format: Annotated[Literal["tif", "jpg"], typer.Option("--format", help="Of the images.")] = "tif",
    cluster: Cluster = None,
    workers: Workers = None,
) -> None:
    """Write labelled images as chips with masks, to train with something else."""
    from segsmith.data.chip_files import write_chips
    from segsmith.recipe import Recipe
    from segsmith.recipe_files import override

    options = {"input_hw": [size, size], "stride": stride, "scales": scale or [1.0], "gsd_m": gsd_m}
    said = [f"data.{name}={json.dumps(value)}" for name, value in (options | {"blank_most": blank_most}).items()]
    chosen = override(Recipe(), ["data.fit=chip", *said]).data
    count, with_foreground = write_chips(dataset, chosen, to, file_format=file_format, cluster=cluster, workers=workers)
    out.print(f"{count:,} chips, {with_foreground:,} with foreground: {to}")


@app.command()
def preview(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a YAML file.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Dataset folder that inspect wrote.", show_default=False)],
    overrides: Overrides = None,
    to: Annotated[Path, typer.Option("--out", help="HTML file to write, or the folder of it.")] = Path("preview.html"),
    stage: Annotated[int, typer.Option(min=1, help="Stage to draw, counted from 1.")] = 1,
    batches: Annotated[int, typer.Option(min=1, help="How many batches of its first epoch are drawn.")] = 2,
) -> None:
    """Draw batches as the network will see them, beside the untouched images."""
    from segsmith.eda.preview import preview as run_preview
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    out.print(f"preview {run_preview(data, loaded, to, stage=stage, batches=batches)}")


RecipeOption = Annotated[
    str, typer.Option("--recipe", "-r", help="Name of a shipped recipe, or a YAML file.", show_default=False)
]


@app.command()
def find_rate(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
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
    from segsmith.modeling.find_rate import DECAYS
    from segsmith.modeling.find_rate import find_rate as run_finder

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
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
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
    from segsmith.modeling.find_batch import Tried
    from segsmith.modeling.find_batch import find_batch as run_finder

    def tell(tried: Tried) -> None:
        made = f"{tried.images_per_second:.1f} images/s, " if tried.images_per_second else ""
        how = "fits" if tried.fits else "does not fit"
        _say(f"batch {tried.batch:>4}: {made}{tried.gib:.2f} GiB{'' if made else ' to be expected'}, {how}")

    found = run_finder(dataset, loaded, memory_gib=memory, tell=tell)
    out.print(f"train.batch_size={found.batch} train.accumulate=1", style="bold")


def _within(dataset: Path, recipe: "Recipe", run: Path, budget: str) -> "Recipe":
    """The recipe with the epochs that fit into a budget; of a run that has begun, with those that it has."""
    from segsmith.modeling.budget import fit_to, seconds_of, with_lengths_of
    from segsmith.modeling.run import Run

    seconds = seconds_of(budget)
    if (run / "recipe.yaml").exists():
        return with_lengths_of(recipe, Run(run).recipe())
    found = fit_to(dataset, recipe, seconds)
    for number, stage in enumerate(found.stages, start=1):
        epochs = f"{stage.epochs} epochs" if stage.epochs > 1 else "1 epoch"
        images = f" of {stage.images_per_epoch:,} images" if stage.images_per_epoch else ""
        out.print(
            f"stage {number}: {epochs}{images}, {stage.images_per_second:.1f} images/s here, "
            f"{stage.epoch_seconds:.0f} s a whole epoch"
        )
    out.print(f"about {found.seconds / 60:.0f} minutes in all")
    return found.recipe


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
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
) -> None:
    """Train, or go on training where a run was stopped."""
    from segsmith.recipe_files import load_recipe

    loaded = load_recipe(recipe, [*(overrides or []), *(["folds.validation=all"] if folds else [])])
    if budget is not None:
        if processes > 1 or "RANK" in os.environ:
            raise SegsmithError("--budget measures one process; leave out --processes, or set epochs yourself")
        loaded = _within(dataset, loaded, run, budget)
    if processes > 1 and "RANK" not in os.environ:
        from segsmith.modeling.launch import launch

        raise typer.Exit(launch(sys.argv[1:], processes))
    from segsmith.modeling.bundle import Bundle
    from segsmith.modeling.train import train as run_training

    watch = TrainingLine()
    done = run_training(dataset, loaded, run, watch=watch)
    if folds and RANK == 0 and Bundle.read(done.bundle).decision.metric is None:
        decide(run)
        evaluate(run)
    else:
        out.print(f"bundle {done.bundle}; next: segsmith decide {run}")


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

    said = _numbers("--weights", weights) if weights not in (None, "fit") else None
    found = run_combination(runs, to, weights="fit" if weights == "fit" else said, average=average)
    for run, weight in zip(runs, found.weights, strict=True):
        out.print(f"{run}: {f'weight {weight:.3f}' if weight else 'left out, its weight is 0'}")
    out.print(f"{found.validation:,} validation images in common, {found.held_out:,} held out")
    out.print(f"bundle {to / 'bundle.safetensors'}; next: segsmith decide {to}")


@app.command()
def search(
    recipe: Annotated[str, typer.Argument(help="YAML file of a recipe with a search: group.", show_default=False)],
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
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
    from segsmith.modeling.search import search as run_search

    found = run_search(dataset, loaded, to, storage=storage, name=study, watch=TrainingLine(), say=_say)
    for trial in found.finished[:5]:
        out.print(f"{found.metric} {trial.score:.4f}  trial {trial.number}  " + _values(trial.values))
    for key, share in found.importance.items():
        out.print(f"  {share:4.0%} of what told good trials from others was {key}")
    out.print(f"best recipe {to / 'best.yaml'}, report {to / 'report.html'}; next: segsmith decide "
              f"{to / 'trials' / f'{found.best.number:04}'}")  # fmt: skip


@app.command()
def cache(
    dataset: Annotated[
        Path, typer.Argument(help="Dataset folder, or the folder that train.cache names.", show_default=False)
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove them all; trainings that use one go on.")] = False,
) -> None:
    """Tell which decoded samples are kept for trainings, and how large they are."""
    from segsmith.data.cache import FOLDER, kept_samples, remove_samples, told_bytes

    if not dataset.is_dir():
        raise SegsmithError(f"{dataset}: no such folder; name a dataset folder, or the one that train.cache names")
    folder = dataset / FOLDER if (dataset / "dataset.json").is_file() else dataset
    for kept in kept_samples(folder):
        height, width = kept.hw
        out.print(
            f"{kept.file}: {kept.samples:,} samples of {height} x {width} pixels, {told_bytes(kept.bytes)} "
            f"({told_bytes(kept.full_bytes)} once all were read), last used {kept.days_unused:.0f} days ago"
        )
    if remove:
        out.print(f"{told_bytes(remove_samples(folder))} removed from {folder}")
    elif not kept_samples(folder):
        out.print(f"no decoded samples in {folder}")


@app.command()
def decide(
    run: RunFolder,
    metric: Annotated[str | None, typer.Option(help=METRIC_HELP)] = None,
    miss_rate: Annotated[
        float | None,
        typer.Option(help="Largest share of the foreground that may be missed, such as 0.05; sets the threshold."),
    ] = None,
    separate: Annotated[
        str | None,
        typer.Option(help="How objects that touch are taken apart, instead of the recipe's: none, distance, border."),
    ] = None,
) -> None:
    """Tune threshold, smallest object and empty gate of each class on the validation fold."""
    from segsmith.modeling.run import Run
    from segsmith.recipe_files import override

    recipe = Run(run).recipe()
    tuned_for = override(recipe, [f"decide.metric={metric}", "decide.separate=none"] if metric else []).decide.metric
    by_objects = ["decide.metric=f2_objects", f"decide.separate={separate}"]
    taken_apart_by = override(recipe, by_objects).decide.separate if separate else None
    from segsmith.decision.decide import decide as run_decide

    decision = run_decide(run, metric=tuned_for, miss_rate=miss_rate, separate=taken_apart_by)
    names = Run(run).dataset().classes
    cross = f", {decision.cross_fitted_score:.4f} when cross-fitted" if decision.cross_fitted_score is not None else ""
    for name, cell in zip(names, decision.cells, strict=True):
        gate = f", empty below a gate of {cell.gate / 255:.3f} ({decision.gate_by})" if cell.gate else ""
        apart = f", touching objects taken apart ({decision.separate_by}, depth {cell.depth})" if cell.depth else ""
        out.print(f"{name}: threshold {cell.threshold:.3f}, smallest object {cell.smallest_area} pixels{gate}{apart}")
    for name, found in zip(names, decision.dials, strict=bool(decision.dials)):
        out.print(
            f"{name}: of new images with foreground at most {found.miss_rate:.1%} of it is missed on average, "
            f"judging by {found.images:,} of them; something is marked in {_share(found.false_alarms)} of the empty "
            f"images, and {_share(found.wrong_pixels)} of what is marked is background"
        )
    out.print(f"{decision.metric} {decision.score:.4f} on the validation fold{cross}")
    out.print(f"stored in the bundle; next: segsmith evaluate {run}")


@app.command()
def evaluate(
    run: RunFolder,
    on: Annotated[
        Literal["validation", "held_out"] | None, typer.Option(help="Fold to score; the held-out one if there is one.")
    ] = None,
) -> None:
    """Score a decided run; write a report, worst images first."""
    from segsmith.decision.evaluate import evaluate as run_evaluation
    from segsmith.decision.report import write_report

    evaluation = run_evaluation(run, on=on)
    _print_scores(evaluation)
    out.print(f"report {write_report(run, evaluation)}")


@app.command()
def review(
    run: RunFolder,
    top: Annotated[int, typer.Option(min=1, help="Labels on the page.")] = 60,
) -> None:
    """Rank labels by how far the networks disagree with them; write a page to judge them on."""
    from segsmith.decision.review import review as run_review

    table = run_review(run, top=top)
    for row in table.head(5).to_dict("records"):
        out.print(f"  {row['image_id']}, class {row['class']}: quality {row['quality']:.3f}")
    out.print(
        f"{len(table):,} labels ranked: {run / 'review.csv'}; open {run / 'review.html'} and save corrections.csv"
    )


@app.command()
def correct(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that inspect wrote.", show_default=False)],
    corrections: Annotated[Path, typer.Argument(help="corrections.csv that the page saved.", show_default=False)],
) -> None:
    """Put corrections of labels beside a dataset; whoever opens it sees them from then on."""
    from collections import Counter

    from segsmith.data.corrections import correct as run_correction

    counts = Counter(found.verdict for found in run_correction(dataset, corrections))
    told = ", ".join(f"{verdict} {count:,}" for verdict, count in counts.items())
    out.print(f"{dataset / 'corrections.csv'}: {told or 'nothing'}; train a new run on what is corrected")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Evaluated runs.", show_default=False)],
    metric: Annotated[str | None, typer.Option(help="Metric to compare by, in place of the first recipe's.")] = None,
    unseen: Annotated[
        int | None, typer.Option(min=2, help="Images of a leaderboard to come; as many as were scored if unset.")
    ] = None,
    public: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share of them that its public part shows.")] = 0.3,
) -> None:
    """Compare runs scored on the same images: which is better, and how sure."""
    from rich.table import Table

    from segsmith.errors import RunError
    from segsmith.modeling.run import Run
    from segsmith.recipe_files import override

    if metric == "f2_objects":
        raise RunError("compare counts pixels, and f2_objects is of objects; choose another --metric")
    by = override(Run(runs[0]).recipe(), [f"decide.metric={metric}"] if metric else []).metric_of_pixels
    from segsmith.decision.compare import compare as run_comparison

    found = run_comparison(runs, metric=by, unseen=unseen, public=public)
    table = Table(title=f"{found.metric} on {found.images:,} images, in pairs; intervals of 95 %")
    for heading in ("run", "score", "interval", "to the best", "interval", "better", "on unseen"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for at, each in enumerate(found.standings):
        against = ("", "", "", "") if at == 0 else (
            f"{each.gain:+.4f}",
            f"{each.gain_low:+.4f} to {each.gain_high:+.4f}",
            f"{each.beats_best:.0%}",
            f"{each.beats_best_unseen:.0%}",
        )  # fmt: skip
        table.add_row(str(each.run), f"{each.score:.4f}", f"{each.low:.4f} to {each.high:.4f}", *against)
    out.print(table)
    out.print("better: probability that it is the better one after all; on unseen: that it scores higher on")
    out.print(f"{found.unseen:,} images to come, {found.public:,} of them public:")
    for each in found.standings:
        out.print(
            f"  {each.run}: first on the public part {each.wins_public:.0%}, on the private {each.wins_private:.0%}; "
            f"its public score varies by {each.public_spread:.4f} (standard deviation)"
        )
    out.print(f"the public winner is not the private one in {found.shaken:.0%} of such contests")


@app.command("runs")
def runs_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders with runs in or below them.", show_default=False)
    ],
) -> None:
    """List runs: how far, what they score, what tells their recipes apart, which is best."""
    from segsmith.modeling.runs import runs

    groups, broken = runs(folders)
    for number, group in enumerate(groups):
        kind = group.kind
        scored = "best epoch on the validation fold" if kind.how == "epochs" else f"{kind.how.replace('_', '-')} fold"
        out.print(f"{kind.metric} on {kind.dataset} ({kind.fingerprint}, {scored}, images {kind.images})", style="bold")
        for place, one in enumerate(group.standings):
            score = "-" if one.score is None else f"{one.score:.4f}"
            interval = f" ({one.interval[0]:.4f} to {one.interval[1]:.4f})" if one.interval else ""
            where = "finished" if one.finished else f"stage {one.stage} of {one.stages}, epoch {one.epoch}"
            out.print(f"  {score}{interval}  {one.folder}  {where}")
            own = [f"{key}={values[place]}" for key, values in group.differing.items()]
            more = f" and {len(own) - SHOWN_KEYS} more" if len(own) > SHOWN_KEYS else ""
            if own:
                out.print(f"      {', '.join(own[:SHOWN_KEYS])}{more}")
        best = group.standings[0]
        if len(group.standings) > 1 and best.score is not None:
            doubt = "" if group.sure else ", but not surely so"
            more = "" if kind.how == "epochs" or group.sure else f"; more: segsmith compare {best.folder} RUN"
            out.print(f"best: {best.folder}{doubt}{more}")
        if number + 1 < len(groups):
            out.print()
    if len(groups) > 1:
        out.print(f"{len(groups)} groups: scores of different datasets, metrics or images cannot be compared")
    for problem in broken:
        out.print(f"does not read: {problem}", style="bold red")


@app.command()
def mine(
    run: RunFolder,
    images: Annotated[
        Path, typer.Argument(help="Folder of images, or dataset folder that inspect wrote.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Dataset folder to write: the run's, and what was mined.")],
    known_empty: Annotated[
        bool, typer.Option("--known-empty", help="Someone knows that no image of the folder holds foreground.")
    ] = False,
    sure: Annotated[
        float, typer.Option(min=0, max=1, help="Value up to which an image of unknown truth is taken for empty.")
    ] = 0.05,
    most: Annotated[int | None, typer.Option(min=1, help="Images kept of each kind; all if unset.")] = None,
    cluster: Cluster = None,
    workers: Workers = None,
) -> None:
    """Find images that a run sees foreground in and that have none; add them to its dataset."""
    from segsmith.decision.mine import BELIEVED, KNOWN
    from segsmith.decision.mine import mine as run_mining

    found = run_mining(run, images, to, known_empty=known_empty, sure=sure, most=most, cluster=cluster, workers=workers)
    alarms, empties = (int((found.kept["kind"] == kind).sum()) for kind in ("false alarm", "empty"))
    out.print(
        f"{found.looked_at:,} images looked at: {alarms:,} false alarms, {empties:,} taken for empty", style="bold"
    )
    if len(found.unknown):
        out.print(
            f"  {len(found.unknown):,} show something, and nobody knows whether it is there: {to / 'unknown.csv'}"
        )
    if len(found.kept):
        source = KNOWN if alarms else BELIEVED
        mix = f"'train.stages.0.mix={{\"source:{source}\": 0.2, rest: 0.8}}'"
        out.print(f"dataset {to}; next: segsmith train {to} RUN --recipe RECIPE {mix}")
    else:
        out.print(f"dataset {to}, as it was: nothing was mined")


@app.command()
def label(
    run: RunFolder,
    images: Annotated[
        Path, typer.Argument(help="Folder of unlabelled images, or dataset folder with some.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Dataset folder to write: the run's, and what was labelled.")],
    sure: Annotated[
        float, typer.Option(min=0, max=1, help="Dice, to be expected of its mask, from which an image is kept.")
    ] = SURE,
    agree: Annotated[
        float, typer.Option(min=0, max=1, help="Mean Dice of each network's and view's mask and that of all, likewise.")
    ] = AGREE,
) -> None:
    """Label images with a run's probabilities where it is sure; add them to its dataset, to teach a student."""
    from segsmith.decision.label import TAUGHT
    from segsmith.decision.label import label as run_labelling

    found = run_labelling(run, images, to, sure=sure, agree=agree)
    kept = found.table[found.table["kept"]]
    empty = int((kept["objects"] == 0).sum())
    out.print(f"{len(found.table):,} images looked at, {found.kept:,} kept, {empty:,} of them empty", style="bold")
    if len(kept):
        mix = f"'train.stages.0.mix={{\"source:{TAUGHT}\": 1, rest: 1}}'"
        out.print(f"dataset {to}; next: segsmith train {to} STUDENT --recipe RECIPE {mix} train.stages.0.loss.kl=1")
    else:
        out.print(f"dataset {to}, as it was: set --sure or --agree lower ({to / 'taught.csv'} tells of each image)")


@app.command()
def teach(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run that teaches first, evaluated.", show_default=False)],
    images: Annotated[
        Path, typer.Argument(help="Folder of unlabelled images, or dataset folder with some.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder of the students; one that exists is continued.", show_default=False)],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Of the students; the teacher's, made noisier, if unset.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Students at the most, each taught by the one before.")] = 3,
    sure: Annotated[float, typer.Option(min=0, max=1, help="As in label.")] = SURE,
    agree: Annotated[float, typer.Option(min=0, max=1, help="As in label.")] = AGREE,
) -> None:
    """Teach students by soft labels of unlabelled images, round by round, while that surely helps."""
    from segsmith.modeling.run import Run
    from segsmith.recipe_files import load_recipe, override

    loaded = None if recipe is None else load_recipe(recipe, overrides or [])
    from segsmith.decision.teach import student_recipe
    from segsmith.decision.teach import teach as run_teaching

    if loaded is None:
        loaded = override(student_recipe(Run(run).recipe()), overrides or [])
    found = run_teaching(
        run, images, to, recipe=loaded, rounds=rounds, sure=sure, agree=agree, watch=TrainingLine(), say=_say
    )
    for row in found.rounds:
        out.print(
            f"round {row.round}: {row.kept:,} of {row.looked_at:,} images labelled; {row.teacher_score:.4f} to "
            f"{row.student_score:.4f} on {row.images:,} held-out images, gain {row.gain:+.4f} "
            f"({row.gain_low:+.4f} to {row.gain_high:+.4f}){'' if row.surely_better else ', not surely one: the last'}"
        )
    out.print(f"ledger {to / 'ledger.csv'}; best: {found.best}")


@app.command()
def export(
    run: RunFolder,
    images: Annotated[int, typer.Option(min=1, help="Images that every export is checked on, at most.")] = 128,
) -> None:
    """Write a decided run's networks as ONNX, in float32 and int8; check and time each on its images."""
    from rich.table import Table

    from segsmith.delivery.export import export as run_export

    done = run_export(run, images=images)
    exported = done.exported
    table = Table(title=f"{exported.images:,} images, {exported.machine}")
    for heading in ("backend", "ms an image", "times torch", "largest difference", "changed pixels", exported.metric):
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    torch_takes = exported.figures[0].seconds_per_image
    for of in exported.figures:
        table.add_row(
            of.backend,
            f"{1000 * of.seconds_per_image:.1f}",
            f"{torch_takes / of.seconds_per_image:.2f}",
            f"{of.largest_difference} levels",
            f"{of.changed_pixels:.3%}",
            f"{of.score:.4f} ({of.score_change:+.4f})",
        )
    out.print(table)
    for of in exported.figures:
        if not of.passes:
            out.print(f"{of.backend} {of.told}; predict does not use it")
    for reason in done.unchecked:
        out.print(reason)
    out.print(f"exports: {done.folder}; next: segsmith predict {run} IMAGES --backend auto")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle file, or run folder.", show_default=False)],
    images: Annotated[
        str,  # a path would lose a slash of /vsicurl/https://...
        typer.Argument(
            metavar="RASTER|FOLDER",
            help="Folder of images or of GeoTIFFs, or one raster: a file, or /vsi... as GDAL names what is remote.",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder to write; whole or not at all.")] = Path("prediction"),
    scale: Annotated[
        float | None,
        typer.Option(min=0.001, help="Rasters: enlargement, in place of what their metres a pixel ask for."),
    ] = None,
    sample_submission: Annotated[
        Path | None, typer.Option(help="CSV that fixes which images are predicted, and the order of rows.")
    ] = None,
    numbers: Annotated[Path | None, typer.Option(help="CSV of ids and the numbers named in data.extra.")] = None,
    mosaics: Annotated[
        bool, typer.Option("--mosaics", help="Images cut from one picture are made to agree where they meet.")
    ] = False,
    masks: Annotated[bool, typer.Option(help="Write mask PNGs.")] = True,
    overlays: Annotated[bool, typer.Option(help="Write images with their outlines.")] = True,
    vectors: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT", help="Rasters: gpkg (if unset), geojson, parquet or none; may be repeated."),
    ] = None,
    square: Annotated[bool, typer.Option(help="Rasters: give polygons right angles, as buildings have.")] = False,
    backend: Annotated[
        str,
        typer.Option(
            help="What runs the networks: torch, onnxruntime, onnxruntime-int8, openvino, openvino-int8; "
            "auto takes the fastest that export found to score as PyTorch does."
        ),
    ] = "auto",
    cluster: Cluster = None,
    workers: Workers = None,
) -> None:
    """Predict a folder of images, or rasters of any size; write what is handed in."""
    from segsmith.delivery.predict import predict as run_prediction
    from segsmith.delivery.predict_rasters import find_rasters, predict_rasters
    from segsmith.delivery.vectors import vector_formats
    from segsmith.errors import RunError

    if sample_submission is None and find_rasters(images):
        rasters = predict_rasters(
            bundle, images, to, scale=scale, numbers=numbers, vectors=vector_formats(vectors or ["gpkg"]),
            square=square, backend=backend, cluster=cluster, workers=workers,
        )  # fmt: skip
        for raster in rasters:
            _print_raster(raster)
        out.print(f"backend {rasters[0].backend}: {rasters[0].why}")
        out.print(f"probabilities, masks and objects: {to}")
        return
    if cluster or workers:
        raise RunError(f"--cluster is for rasters; {images} is a folder of images, which one process predicts")
    done = run_prediction(
        bundle,
        Path(images),
        to,
        sample_submission=sample_submission,
        numbers=numbers,
        mosaics=mosaics,
        masks=masks,
        overlays=overlays,
        backend=backend,
    )
    out.print(f"backend {done.backend}: {done.why}")
    out.print(f"{done.images:,} images, {done.with_foreground:,} with foreground, {done.rows:,} rows")
    out.print(f"read back and checked: {done.folder / 'submission.csv'}")


@app.command()
def check(
    submission: Annotated[Path, typer.Argument(help="CSV of run lengths, whoever wrote it.", show_default=False)],
    sample_submission: Annotated[Path | None, typer.Option(help="CSV that says which images are asked for.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="CSV with the labels in the same columns, or a dataset folder; scores it.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to know their sizes.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Of all images, in place of that.")] = None,
) -> None:
    """Check a submission as a contest would; score it where the truth is known."""
    from segsmith.delivery.check import check as run_check
    from segsmith.errors import listed

    found = run_check(
        submission, sample=sample_submission, truth=truth, images=images, hw=_size("--size", size) if size else None
    )
    out.print(
        f"{found.layout}: {found.rows:,} rows, {found.images:,} images, {found.with_foreground:,} with foreground"
    )
    for note in found.notes:
        out.print(f"  {note}")
    if found.problems:
        count = len(found.problems)
        raise SegsmithError(f"{submission}: {count:,} problem{'s' * (count > 1)}:\n{listed(found.problems)}")
    out.print("nothing wrong")
    if found.scores:
        out.print(_score_table(f"scores of {submission.name}", found.scores))


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="Bundle file, or run folder.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="SEGSMITH_TOKEN", help="Asked for in every request; others see what stands on a line."),
    ] = None,
    upload_mb: Annotated[float, typer.Option(min=0.001, help="MiB of one upload.")] = 32,
    pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 2**24,
    requests: Annotated[int, typer.Option(min=1, help="Taken on at once; to further ones it is busy (429).")] = 128,
    memory_mb: Annotated[float, typer.Option(min=1, help="MiB that all of them may need, about.")] = 1024,
    seconds: Annotated[float, typer.Option(min=0.1, help="From the beginning of a request to its answer.")] = 60,
    gather_ms: Annotated[float, typer.Option(min=0, help="An image waits at most for others, to go together.")] = 5,
) -> None:
    """Answer images and GeoTIFFs over HTTP with their masks."""
    from segsmith.service.limits import Limits
    from segsmith.service.serve import serve as run_service

    limits = Limits(upload_mb, pixels, requests, memory_mb, seconds, gather_ms)
    run_service(bundle, host=host, port=port, token=token, limits=limits, say=_say)


@recipe_app.command("list")
def recipe_list() -> None:
    """Names of the shipped recipes."""
    from segsmith.recipe_files import recipe_names

    for name in recipe_names():
        out.print(name)


@recipe_app.command("show")
def recipe_show(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a YAML file.", show_default=False)],
    overrides: Overrides = None,
) -> None:
    """A recipe as resolved: every option with its value and what it does."""
    from segsmith.recipe_files import load_recipe, to_yaml

    print(to_yaml(load_recipe(recipe, overrides or []), explained=True), end="")


@recipe_app.command("schema")
def recipe_schema() -> None:
    """JSON Schema of recipe files, for editors."""
    from segsmith.recipe_files import recipe_schema as schema

    print(json.dumps(schema(), indent=2))


class TrainingLine:
    """Shows training: one live line on a terminal, one printed line per epoch everywhere."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.shown = 0.0
        self.stage = ("", -1)

    def __call__(self, step: "Step") -> None:
        if (step.fold, step.stage) != self.stage:
            if step.fold != self.stage[0]:
                self._print(step.fold)
            self.stage = (step.fold, step.stage)
            plan = step.plan
            shares = ", ".join(f"{share:.0%} {name}" for name, share in zip(plan.names, plan.shares, strict=True))
            self._print(
                f"stage {step.stage + 1}: {plan.images:,} images an epoch in batches of {plan.batch_size} ({shares})"
            )
            if plan.left_out:
                self._print(f"  {plan.left_out:,} training images fit no stratum of the mix and are not drawn")
            for name, times in plan.repeats.items():
                self._print(f"  {name} images must repeat: each is drawn {times:.2f} times an epoch")
        if step.epoch_is_over and step.last_epoch is not None:
            row = step.last_epoch
            metric = list(row)[6]
            self._print(
                f"stage {row['stage']} epoch {row['epoch']:>3}  loss {row['loss']:.4f}  "
                f"validation {row['validation_loss']:.4f}  "
                f"{metric} {row[metric]:.4f} at {row['threshold']:.2f}  {row['images_per_second']:.1f} images/s"
            )
        elif self.live and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            left = (step.images_in_all - step.images_seen) / max(step.images_per_second, 1e-9)
            score = ""
            if step.last_epoch is not None:
                metric = list(step.last_epoch)[6]
                score = f"  {metric} {step.last_epoch[metric]:.4f}"
            done = step.images_seen / step.images_in_all
            told = (
                f"{done:4.0%}  {int(left // 60)}:{int(left % 60):02d} left  loss {step.loss:.4f}{score}  "
                f"{step.images_per_second:.1f} images/s  epoch {step.epoch + 1} step {step.step}/{step.plan.batches}"
            )
            width = _columns()
            line = f"{_bar(done, cells=min(20, max(5, width - len(told) - 1)))} {told}"
            sys.stdout.write(f"\r{line[:width]:<{width}}")
            sys.stdout.flush()

    def _print(self, line: str) -> None:
        if self.live:
            sys.stdout.write(f"\r{' ' * _columns()}\r")
        print(line, flush=True)


def _columns() -> int:
    """Characters a line of the terminal takes without wrapping; some terminals say they have none at all."""
    return shutil.get_terminal_size().columns - 1


def _say(line: str) -> None:
    print(line, flush=True)


def _values(values: "Mapping[str, object]") -> str:
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _bar(share: float, cells: int) -> str:
    full = int(cells * share)
    return "█" * full + "░" * (cells - full)


def _print_scores(evaluation: "Evaluation") -> None:
    how = "cross-fitted decision" if evaluation.cross_fitted else "decision tuned on other images"
    which = "learnt by heart" if evaluation.by_heart else f"of the {evaluation.part.replace('_', '-')} fold"
    out.print(_score_table(f"{evaluation.count:,} images {which}, {how}", evaluation.scores))
    worst = evaluation.images.head(3)
    out.print("worst: " + ", ".join(f"{row.image_id} (Dice {row.dice:.3f})" for row in worst.itertuples()))


def _print_raster(done: "RasterPrediction") -> None:
    height, width = done.hw
    out.print(f"{done.raster}: {height:,} x {width:,} pixels, enlarged {done.scale:.3g} times", style="bold")
    seam = "" if done.seam is None else f", {done.seam:.2f} times as steep on their edges as elsewhere"
    out.print(f"  {done.chips:,} chips, {done.blank:,} without a usable pixel left out{seam}")
    for name, pixels in done.foreground_pixels.items():
        count = f", {done.objects.get(name, 0):,} objects" if done.objects else ""
        out.print(f"  {name}: {pixels / max(1, done.usable_pixels):.2%} of {done.usable_pixels:,} usable pixels{count}")


def _score_table(title: str, scores: "Sequence[Score]") -> "Table":
    from rich.table import Table

    table = Table(title=title)
    for heading in ("metric", "score", "95 % interval", "all empty"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for found in scores:
        table.add_row(
            found.name, f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}", f"{found.all_empty:.4f}"
        )
    return table


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise SegsmithError(f"{option} '{text}' is not numbers with commas between them, such as 2,1,1") from None


def _size(option: str, text: str) -> "HW":
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) * int(width) < 2**31):
        raise SegsmithError(f"{option} '{text}' is not HEIGHTxWIDTH in pixels, such as 768x768")
    return int(height), int(width)


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2, a stop in 130."""
    try:
        app(prog_name="segsmith")
    except SegsmithError as error:
        print(f"segsmith{f' (process {RANK})' if RANK else ''}: {error}", file=sys.stderr)
        stopped = type(error).__name__ == "TrainingStopped"
        sys.exit(130 if stopped else 2)
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            print("segsmith: stopped; nothing half-written was left behind", file=sys.stderr)
        raise
