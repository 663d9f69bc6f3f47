"""An image of a run -> its F2 of objects at every level and smallest area, told apart as its decision does."""

from functools import partial

import numpy as np
from jaxtyping import Float

from segsmith.decision.decide import Seen, true_objects
from segsmith.decision.object_levels import f2_scores, separated_f2_scores
from segsmith.decision.separation import relief_of
from segsmith.viewer.open_run import OpenRun


def f2_tables(run: OpenRun, seen: Seen) -> tuple[Float[np.ndarray, "classes 256 areas"], Float[np.ndarray, " classes"]]:
    """Of each class the score at every level and smallest area of `run.areas`, whatever the gate says, and that of an
    image whose gate empties it. Of a class whose objects are taken apart, levels have the score of the nearest of
    `LEVELS_SEPARATED`."""
    tables, emptied = [], []
    for number, (plane, truth) in enumerate(zip(seen.planes, seen.truth, strict=True)):
        with run.reading:
            labels = true_objects(run.chips, seen.chip, number, truth)
        depth = run.cells[number].depth
        if depth:
            relief = partial(relief_of, run.decision.separate_by, number=number, planes=seen.raw)
            tables.append(separated_f2_scores(plane, labels, run.areas, relief, [depth])[0])
        else:
            tables.append(f2_scores(plane, labels, run.areas))
        emptied.append(float(not labels.any()))
    return np.stack(tables), np.array(emptied)
