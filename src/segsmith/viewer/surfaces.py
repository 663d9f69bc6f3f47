"""A run's images of a part -> what their scores are made of at every level and smallest area, computed once."""

import threading
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from segsmith.decision.masks import count_areas
from segsmith.modeling.metrics import LEVELS, MEANS, Counts, image_scores
from segsmith.viewer.object_tables import f2_tables
from segsmith.viewer.open_run import NotShownError, OpenRun


def planes_of(run: OpenRun) -> tuple[str, ...]:
    """What is summed over images: each score of which a mean is told, and pixels."""
    return *MEANS, *(["f2_objects"] if run.by_objects else []), "right_pixels", "predicted_pixels"


@dataclass
class Surfaces:
    """Sums over the images of a part, of each class, with the gate of its decision."""

    sums: Float[np.ndarray, "classes planes 256 areas"]
    true_pixels: list[int]
    usable_pixels: list[int]
    images: int
    done: int = 0
    failed: Exception | None = None
    finished: threading.Event = field(default_factory=threading.Event)


class SurfacesInTurn:
    """Of each run and part the surfaces, made by a thread of their own when they are first asked for."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Surfaces] = {}
        self._lock = threading.Lock()

    def of(self, run: OpenRun, part: str) -> Surfaces:
        """As far as they are made; `finished` says whether they are. Raises NotShownError where probabilities of the
        part are missing."""
        with self._lock:
            key = (f"{run.folder} {run.version}", part)
            if key not in self._made:
                numbers = run.of_part(part)
                missing = [chip for chip in numbers if not run.files.has(run.chips.id(chip))]
                if missing:
                    raise NotShownError(
                        f"{run.folder}: {len(missing):,} of {len(numbers):,} images of this part have no "
                        "probabilities, so there is no score of all of them. They are made by:",
                        f"segsmith evaluate {run.folder} --on {part}",
                    )
                classes = len(run.classes)
                sums = np.zeros((classes, len(planes_of(run)), LEVELS, len(run.areas)))
                made = self._made[key] = Surfaces(sums, [0] * classes, [0] * classes, len(numbers))
                threading.Thread(target=_fill, args=(made, run, numbers), daemon=True).start()
            return self._made[key]


def _fill(made: Surfaces, run: OpenRun, numbers: list[int]) -> None:
    try:
        for chip in numbers:
            seen = run.seen(chip)
            tables, emptied = f2_tables(run, seen) if run.by_objects else (None, None)
            pixels = int(seen.valid.sum())
            for number, (plane, true) in enumerate(zip(seen.planes, seen.truth, strict=True)):
                tp, predicted = count_areas(plane, true, run.areas)
                of_objects = [] if tables is None else [tables[number]]
                if seen.gates[number] < run.cells[number].gate:
                    tp, predicted = np.zeros_like(tp), np.zeros_like(predicted)
                    of_objects = [] if emptied is None else [np.full(tp.shape, emptied[number])]
                counts = Counts(tp, predicted, np.array(int(true.sum())), np.array(pixels))
                means = (image_scores(mean, counts) for mean in MEANS)
                made.sums[number] += np.stack([*means, *of_objects, tp, predicted])
                made.true_pixels[number] += int(true.sum())
                made.usable_pixels[number] += pixels
            made.done += 1
    except Exception as error:  # of a thread: whoever asks is told
        made.failed = error
    made.finished.set()
