"""A finished run -> report.html: what was trained on what, how well it does, and what it gets wrong."""

from pathlib import Path

import numpy as np
import pandas as pd

from segsmith.data.images import as_rgb
from segsmith.decision.decision_report import calibration_sections, decision_section
from segsmith.decision.evaluate import Evaluation, Score
from segsmith.decision.ground import ground_sections
from segsmith.decision.kinds_report import kind_sections
from segsmith.decision.learning_report import Learnt, learning_sections, learnt_by
from segsmith.decision.masks import decided_by
from segsmith.eda.charts import Interval, interval_chart
from segsmith.eda.page import Section, chart_grid, code_block, figure_grid, legend, render_page, table
from segsmith.eda.pictures import image_uri, panels
from segsmith.files import write_text
from segsmith.modeling.run import Run
from segsmith.networks.combinations import WITHOUT_ENCODER
from segsmith.prediction.probabilities import ProbabilityFiles
from segsmith.recipe_files import to_yaml
from segsmith.samples.chips import Chips

SHOWN = 12
"""Images in each of the groups worst, typical, best, at the most."""

METRIC_NAMES: dict[str, str] = {
    "mean_dice": "Dice, mean per image",
    "mean_iou": "IoU, mean per image",
    "mean_iou_map": "IoU over thresholds 0.50 to 0.95",
    "f2_objects": "F2 of objects over IoU thresholds 0.50 to 0.95",
    "global_dice": "Dice, all pixels",
    "global_f1": "F1, all pixels",
    "global_iou": "IoU, all pixels",
    "dice_foreground": "Dice, images with foreground",
    "dice_empty": "Dice, images without",
    "global_accuracy": "Accuracy, all pixels",
    "global_precision": "Precision, all pixels",
    "global_recall": "Recall, all pixels",
}


def score_name(name: str) -> str:
    """What a score is called; `dice_empty:rust` is that of one class."""
    figure, _, of_class = name.partition(":")
    if not of_class:
        return METRIC_NAMES[figure]
    return f"Dice of class {of_class}, images {'without it' if figure == 'dice_empty' else 'with it'}"


def write_report(run: Path, evaluation: Evaluation) -> Path:
    """Write the report of an evaluated run into its folder, whole or not at all; returns its path. Raises
    WriteError."""
    opened = Run(run)
    recipe, chips, facts = opened.recipe(), opened.chips(), opened.facts()
    dataset, combined = chips.dataset, facts.get("combined", [])
    learnt = learnt_by(opened)
    chosen = evaluation.score(evaluation.decision.metric or "mean_dice")
    held = (
        f"the {'validation' if evaluation.part == 'validation' else 'held-out'} fold, none of which it was trained on"
    )
    if evaluation.part == "validation" and combined:
        held = "the validation folds of all of them, each by networks that were not trained on it"
    elif evaluation.part == "validation" and recipe.folds.validation == "all":
        folds = "all folds" if recipe.folds.held_out is None else "all folds but the held-out one"
        held = f"{folds}, each by the networks that were not trained on it"
    pieces = "chips" if recipe.data.fit == "chip" else "images"
    network: str = recipe.network.architecture
    if network not in WITHOUT_ENCODER:
        network += f" {recipe.network.encoder}"
    if combined:
        network = f"{len(combined)} runs combined"
    seen = "learnt by heart: it was trained on all of them, and the scores say nothing of others"
    page = render_page(
        f"Run report: {recipe.name}",
        f"{network} on {dataset.raw.name}, "
        f"scored on {evaluation.count:,} {pieces} " + (seen if evaluation.by_heart else f"of {held}"),
        [
            (METRIC_NAMES[chosen.name], f"{chosen.value:.4f}"),
            ("95 % interval", f"{chosen.low:.3f} to {chosen.high:.3f}"),
            ("all empty would score", f"{chosen.all_empty:.4f}"),
            ("threshold", ", ".join(f"{cell.threshold:.3f}" for cell in evaluation.decision.cells)),
            ("smallest object", ", ".join(f"{cell.smallest_area} px" for cell in evaluation.decision.cells)),
        ],
        [
            Section("Scores", _scores(evaluation)),
            *kind_sections(chips, evaluation, METRIC_NAMES),
            *learning_sections(learnt, recipe, METRIC_NAMES),
            Section("Decision", decision_section(evaluation.decision, dataset.classes, METRIC_NAMES)),
            *calibration_sections(opened.folder / "calibration.json", evaluation.decision.temperature),
            *_pictures(opened, chips, evaluation),
            *ground_sections(opened, chips),
            Section(
                "What was trained on what",
                [
                    table(
                        ["", ""],
                        [
                            ["dataset", f"{dataset.raw.name}, fingerprint {dataset.fingerprint}"],
                            [f"{pieces} trained on", f"{len(opened.part(chips, 'training')):,}"],
                            ["hardware", f"{facts['hardware']}, {facts['precision']}"],
                            *_speed(learnt),
                            *([f"combined: {of['run']}", f"weight {of['weight']:.3f}"] for of in combined),
                            *([name, version] for name, version in facts["versions"].items()),
                        ],
                    ),
                    code_block(to_yaml(recipe)),
                ],
            ),
        ],
    )
    write_text(opened.folder / "report.html", page)
    return opened.folder / "report.html"


def _scores(evaluation: Evaluation) -> list[str]:
    rows = [
        [score_name(s.name), f"{s.value:.4f}", f"{s.low:.4f} to {s.high:.4f}", f"{s.all_empty:.4f}", _skill(s)]
        for s in evaluation.scores
    ]
    how = (
        "Every image is scored with a threshold and smallest area tuned on other images of the validation fold."
        if evaluation.cross_fitted
        else "Threshold and smallest area were tuned on the validation fold, none of whose images are scored here."
    )
    if evaluation.tuned_on_these:
        how = "Threshold and smallest area were tuned on these very images, too few to cross-fit; scores are too good."
    several = evaluation.images["class"].nunique() > 1
    each = (
        " Each class of each image counts once, with one threshold and smallest area for all classes."
        if several
        else ""
    )
    headers = ["metric", "score", "95 % interval", "all empty", "skill over all empty"]
    intervals = [Interval(score_name(s.name), s.value, s.low, s.high, s.all_empty) for s in evaluation.scores]
    return [
        f"{how}{each} Intervals are bootstrapped over images. Skill is the share of what all empty leaves to win.",
        table(headers, rows, numeric=[1, 2, 3, 4]),
        chart_grid([interval_chart(intervals, title="Scores beside predicting all empty", x_label="score")]),
    ]


def _skill(found: Score) -> str:
    left = 1 - found.all_empty
    return f"{(found.value - found.all_empty) / left:.3f}" if left > 0 else "-"


def _pictures(run: Run, chips: Chips, evaluation: Evaluation) -> list[Section]:
    """Worst, typical and best images with foreground, and false alarms on empty ones, as image | truth | prediction."""
    images = evaluation.images
    filled, empty = images[images["true_pixels"] > 0], images[images["true_pixels"] == 0]
    shown = min(SHOWN, max(1, len(filled) // 3))
    worst = _classes_in_turn(filled).head(shown)
    rest = filled.drop(worst.index)  # no image in two groups
    best = _classes_in_turn(rest.iloc[::-1]).head(shown)
    between = rest.drop(best.index)
    middle = (len(between) - shown) // 2
    groups = [
        ("Worst images", worst),
        ("False alarms on empty images", empty[empty["predicted_pixels"] > 0].head(SHOWN)),
        ("Typical images", between.iloc[max(0, middle) : max(0, middle) + shown]),
        ("Best images", best),
    ]
    files = ProbabilityFiles(run.probabilities, chips.dataset.classes)
    sections = []
    for title, rows in groups:
        if not len(rows):
            continue
        items = []
        for row in rows.to_dict("records"):
            class_id = chips.dataset.classes.index(row["class"])
            part = None if row["part"] < 0 else row["part"]
            probabilities = files.read(row["image_id"])
            prediction = decided_by(
                evaluation.decision,
                probabilities,
                exclusive=chips.options.exclusive,
                part=part,
                presence=files.presence(row["image_id"]),
            )[class_id]
            image, truth = as_rgb(chips.pixels(row["row"])), chips.truth(row["row"])[class_id]
            drawn = panels(image, truth, prediction)
            small = max(truth.shape) <= 128
            pixels = f"{row['true_pixels']:,} px true, {row['predicted_pixels']:,} predicted"
            what = f"{row['image_id']}, class {row['class']}" if len(chips.dataset.classes) > 1 else row["image_id"]
            caption = f"{what}: Dice {row['dice']:.3f}, {pixels}"
            items.append((image_uri(drawn, max_side=1100, enlarge=2 if small else 1), caption))
        shown_are = "Image, truth, prediction in red, and where they differ."
        sections.append(Section(title, [shown_are, legend(), figure_grid(items, min_px=330)]))
    return sections


def _classes_in_turn(images: pd.DataFrame) -> pd.DataFrame:
    """The first of each class, the second of each, and so on: one that was never learnt does not crowd out others."""
    return images.iloc[np.argsort(images.groupby("class").cumcount(), kind="stable")]


def _speed(learnt: list[Learnt]) -> list[list[str]]:
    """Rows of how long training took and how fast it was, in all and in each stage; none for combined runs, which say
    it themselves."""
    if not learnt:
        return []
    epochs = pd.concat([of.epochs for of in learnt])
    parts = [("time", epochs)]
    if epochs["stage"].nunique() > 1:
        parts += [(f"of stage {stage}", of_stage) for stage, of_stage in epochs.groupby("stage")]
    return [[name, _took(float(of["seconds"].sum()), int(of["images"].sum()))] for name, of in parts]


def _took(seconds: float, images: int) -> str:
    return f"{_duration(seconds)}, {images / seconds:.1f} images per second"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
