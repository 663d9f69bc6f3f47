"""Commands of learning loops: hard images mined, unlabelled ones labelled, students taught."""

from pathlib import Path
from typing import Annotated

import typer

from segsmith.cli.app import app
from segsmith.cli.options import Cluster, Overrides, RunFolder, Workers
from segsmith.cli.printed import TrainingLine, out, say

SURE, AGREE = 0.8, 0.8
"""From what confidence and agreement on the soft labels of an image are kept."""


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
        run, images, to, recipe=loaded, rounds=rounds, sure=sure, agree=agree, watch=TrainingLine(), say=say
    )
    for row in found.rounds:
        out.print(
            f"round {row.round}: {row.kept:,} of {row.looked_at:,} images labelled; {row.teacher_score:.4f} to "
            f"{row.student_score:.4f} on {row.images:,} held-out images, gain {row.gain:+.4f} "
            f"({row.gain_low:+.4f} to {row.gain_high:+.4f}){'' if row.surely_better else ', not surely one: the last'}"
        )
    out.print(f"ledger {to / 'ledger.csv'}; best: {found.best}")
