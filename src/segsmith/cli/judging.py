"""Commands of judging: what a run decides, scores and confuses, and which run is best."""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segsmith.cli.app import app
from segsmith.cli.options import DatasetFolder, RunFolder
from segsmith.cli.printed import out, print_scores, say, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segsmith.modeling.bundle import Decision, Skip

SHOWN_KEYS = 6
"""Of the keys by which a run's recipe differs, shown at the most."""
METRIC_HELP = "Metric to tune for, in place of the recipe's."


@app.command()
def decide(
    run: RunFolder,
    metric: Annotated[str | None, typer.Option(help=METRIC_HELP)] = None,
    miss_rate: Annotated[
        float | None,
        typer.Option(help="Largest share of the foreground that may be missed, such as 0.05; sets the threshold."),
    ] = None,
    skip_loss: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the foreground that 'predict --skip' may lose by skipping what looks empty, such as "
            "0.01."
        ),
    ] = None,
    look: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Sides of what it looks at first, as a share; 1 where objects are tiny."),
    ] = 0.5,
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

    decision = run_decide(
        run,
        metric=tuned_for,
        miss_rate=miss_rate,
        separate=taken_apart_by,
        skip_loss=skip_loss,
        look=look,
        say=warn,
    )
    print_decision(run, decision)
    out.print(f"stored in the bundle; next: segsmith evaluate {run}")


def print_decision(run: Path, decision: "Decision") -> None:
    """What was decided of each class, and what it scores."""
    from segsmith.modeling.run import Run

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
    if decision.skip is not None:
        _print_skip(decision.skip, names)
    of = (
        "of all folds, by networks that had not seen them"
        if Run(run).recipe().folds.validation == "all"
        else "on the validation fold"
    )
    out.print(f"{decision.metric} {decision.score:.4f} {of}{cross}; all empty {decision.all_empty:.4f}")


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
    print_scores(evaluation)
    out.print(f"report {write_report(run, evaluation)}")


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


@app.command()
def view(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Runs, and predictions of rasters.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at, of this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8080,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser here.")] = True,
) -> None:
    """Look at runs and predictions on a local web page."""
    from segsmith.viewer.view import view as run_viewer

    run_viewer(folders, host=host, port=port, open_page=open_page, say=say)


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
            if one.combined:
                parts = ", ".join(f"{run.name} ({weight:.3g})" for run, weight in one.combined.items() if weight)
                out.print(f"      combined of {parts}")
            has = one.options
            own = [f"{key}={values[place]}" for key, values in group.differing.items() if key in has]
            more = f" and {len(own) - SHOWN_KEYS} more" if len(own) > SHOWN_KEYS else ""
            if own:
                out.print(f"      {', '.join(own[:SHOWN_KEYS])}{more}")
            if one.next_hour.unsaid is None:
                out.print(f"      {one.next_hour}")
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
        warn(f"does not read: {problem}")


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
    dataset: DatasetFolder,
    corrections: Annotated[Path, typer.Argument(help="corrections.csv that the page saved.", show_default=False)],
) -> None:
    """Put corrections of labels beside a dataset; whoever opens it sees them from then on."""
    from collections import Counter

    from segsmith.data.corrections import correct as run_correction

    counts = Counter(found.verdict for found in run_correction(dataset, corrections))
    told = ", ".join(f"{verdict} {count:,}" for verdict, count in counts.items())
    out.print(f"{dataset / 'corrections.csv'}: {told or 'nothing'}; train a new run on what is corrected")


def _print_skip(skip: "Skip", names: "Sequence[str]") -> None:
    few = [f"{count:,} of {name}" for name, count in zip(names, skip.filled, strict=True)]
    if not skip.below:
        needed = f"{ceil(1 / skip.loss - 1e-9) - 1:,} of each class" if skip.loss else "a loss above 0"
        out.print(f"nothing may be skipped: it takes {needed}, and there are {', '.join(few)}")
        return
    out.print(
        f"predict --skip loses at most {skip.loss:.1%} of the foreground of new images on average, judging by "
        f"{', '.join(few)}; of {skip.looked_at:,} validation images it skips {skip.skipped:,}, with {skip.lost:,} of "
        f"{skip.objects:,} objects"
    )


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
