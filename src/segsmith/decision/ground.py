"""A run on chips -> pictures of its scenes: which ground was trained on, and which is judged."""

import numpy as np

from segsmith.data.images import LARGEST_PIXELS, as_rgb
from segsmith.data.windows import scaled_hw
from segsmith.eda.page import Section, figure_grid, legend
from segsmith.eda.pictures import CLASSES, FALSE_ALARM, HIT, MISSED, Picture, Rgb, image_uri
from segsmith.modeling.run import Run
from segsmith.samples.chips import Chips

SHOWN = 12
"""Scenes, at the most: those with the most judged chips."""
SHOWN_PX = 720
"""Longer side of a picture."""
PARTS: dict[str, tuple[Rgb, str]] = {
    "training": (HIT, "trained on"),
    "validation": (FALSE_ALARM, "validation"),
    "held_out": (MISSED, "held out"),
}


def ground_sections(run: Run, chips: Chips) -> list[Section]:
    """A section with the ground of each part of a run's split, or, where all folds validate in turn, of each fold; none
    for runs on whole images or by heart. Raises DataError for a scene that broke."""
    folds = run.recipe().folds
    if chips.whole or folds.by_heart:
        return []
    if folds.validation == "all":
        fold_of = run.folds(chips)
        layers = [
            (CLASSES[fold % len(CLASSES)], f"fold {fold}", [chip for chip, of in fold_of.items() if of == fold])
            for fold in range(folds.count)
        ]
        said = "Chips by the fold they are judged in. "
    else:
        layers = [(*PARTS[name], run.part(chips, name)) for name in PARTS]
        said = ""
    layers = [(colour, name, part) for colour, name, part in layers if part]
    judged = chips.image[chips.judged]
    scenes, counts = np.unique(judged, return_counts=True)
    shown = np.sort(scenes[np.argsort(-counts, kind="stable")[:SHOWN]]).tolist()
    of_all = f" {len(shown)} of {len(scenes)} scenes." if len(shown) < len(scenes) else ""
    how = f"{said}Grey ground is in none of these parts: its chips straddle blocks of two, or are blank.{of_all}"
    items = [
        (image_uri(_painted(chips, scene, layers)), str(chips.dataset.images["image_id"].iloc[scene]))
        for scene in shown
    ]
    return [
        Section("Ground", [how, legend([(colour, name) for colour, name, _ in layers]), figure_grid(items, min_px=330)])
    ]


def _painted(chips: Chips, scene: int, layers: list[tuple[Rgb, str, list[int]]]) -> Picture:
    """A scene in grey, half of it shining through the colours of the chips on it; a blank one where it is too large to
    be read for a picture."""
    hw = chips.dataset.hw(scene)
    factor = min(1.0, SHOWN_PX / max(hw))
    shown_hw = scaled_hw(hw, factor)
    drawn = np.full((*shown_hw, 3), 220, np.uint8)
    if hw[0] * hw[1] <= LARGEST_PIXELS:
        drawn[:] = as_rgb(chips.dataset.read(scene, scale=factor).image).mean(axis=2, keepdims=True)
    for colour, _, part in layers:
        covered = np.zeros(shown_hw, bool)
        for chip in part:
            if chips.image[chip] == scene:
                ratio = factor / chips.scale[chip]
                top, left = round(chips.top[chip] * ratio), round(chips.left[chip] * ratio)
                height, width = (round(side * ratio) for side in chips.options.input_hw)
                covered[max(0, top) : top + height, max(0, left) : left + width] = True
        drawn[covered] = drawn[covered] // 2 + np.array(colour, np.uint8) // 2
    return drawn
