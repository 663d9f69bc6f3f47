"""Commands of data: a raw folder becomes a dataset, a recipe, chips, a preview."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from segsmith.cli.app import app
from segsmith.cli.options import Cluster, DatasetFolder, Overrides, Workers, size_of
from segsmith.cli.printed import TrainingLine, out, print_scores, warn
from segsmith.errors import SegsmithError


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
    print_scores(done.evaluation)
    out.print(f"\nDice {done.evaluation.score('mean_dice').value:.4f} on images never trained on")
    out.print(f"files to hand in   {done.prediction.folder}")
    out.print(f"data report        {done.inspection.folder / 'report.html'}")
    out.print(f"run report         {done.report}   <- open this")


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
        assume_hw=size_of("--assume-size", assume_size) if assume_size else None,
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
        warn("  all labelled images are empty: there is nothing to learn")
    looked = "findings, worst first" if found.findings else "findings: none" if found.audited else "not audited"
    out.print(looked, style="bold")
    for line in printed(found.findings):
        out.print(f"  {line}")
    out.print(f"dataset {folder}, report {folder / 'report.html'}")


@app.command()
def plan(
    dataset: DatasetFolder,
    to: Annotated[Path, typer.Option(help="Recipe file to write.")] = Path("recipe.yaml"),
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the training may take on this machine.")] = 20,
) -> None:
    """Write a recipe for a dataset of any kind, with the reason for each choice."""
    from segsmith.files import write_text
    from segsmith.tuning.plan import plan as make_plan

    if to.exists():
        raise SegsmithError(f"{to} exists; remove it, or choose another name with --to")
    found = make_plan(dataset, minutes=minutes)
    write_text(to, found.to_yaml())
    for line in found.told():
        out.print(f"  {line}")
    out.print(f"recipe {to}; next: segsmith train {dataset} run --recipe {to}")


@app.command()
def chips(
    dataset: DatasetFolder,
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
    from segsmith.recipe import Recipe
    from segsmith.recipe_files import override
    from segsmith.samples.chip_files import write_chips

    if stride and size % stride:
        raise SegsmithError(f"--stride {stride} does not divide --size {size}; choose one that does")
    options = {"input_hw": [size, size], "stride": stride, "scales": scale or [1.0], "gsd_m": gsd_m}
    said = [f"data.{name}={json.dumps(value)}" for name, value in (options | {"blank_most": blank_most}).items()]
    chosen = override(Recipe(), ["predict.batch_size=1", "data.fit=chip", *said]).data  # no network sees them here
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


@app.command()
def cache(
    dataset: Annotated[
        Path, typer.Argument(help="Dataset folder, or the folder that train.cache names.", show_default=False)
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove them all; trainings that use one go on.")] = False,
) -> None:
    """Tell which decoded samples are kept for trainings, and how large they are."""
    from segsmith.samples.cache import FOLDER, kept_samples, remove_samples, told_bytes

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
