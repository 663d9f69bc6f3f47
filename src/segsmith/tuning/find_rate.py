"""Dataset + recipe -> learning rate and weight decay to begin with, from short trainings whose rate rises until they
diverge."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float64

from segsmith.data.dataset import Dataset
from segsmith.eda.charts import Line, line_chart
from segsmith.eda.page import Section, chart_grid, code_block, render_page, table
from segsmith.errors import ModelError, SegsmithError
from segsmith.files import write_text
from segsmith.modeling.processes import ALONE
from segsmith.modeling.run import Run
from segsmith.modeling.train import check_recipe
from segsmith.modeling.training import Training
from segsmith.modeling.trouble import memory_told
from segsmith.progress import track
from segsmith.recipe import Recipe
from segsmith.recipe_files import override
from segsmith.samples.cache import cache_folder
from segsmith.samples.chips import Chips, cut

DECAYS = (0.0, 1e-4, 1e-2)
"""Weight decays compared, with the recipe's own."""
DIVERGED = 4.0
"""How many times its least a smoothed loss is when a test ends."""
AS_GOOD = 0.02
"""A loss that is at most so much above the least, relative, is as good."""
FALLS = 10.0
"""Standard errors of a smoothed loss that it must fall by: else no rate was seen to teach. It fell by 24 and more where
rates taught, by 6 and less where they were too low to."""
LEAST_SIGMA = 2.0
"""Steps, at least, that losses are smoothed over; else a twenty-fifth of all."""


@dataclass(frozen=True)
class RangeTest:
    """One training whose learning rate rose from step to step."""

    decay: float
    rates: Float64[np.ndarray, " steps"]
    losses: Float64[np.ndarray, " steps"]
    """Of each step's batch."""
    sigma: float
    """Steps that losses are smoothed over."""

    @cached_property
    def smoothed(self) -> Float64[np.ndarray, " steps"]:
        return smoothed(self.losses, self.sigma)

    @property
    def lowest(self) -> int:
        """The first step whose smoothed loss is as good as the least."""
        return int((self.smoothed <= (1 + AS_GOOD) * self.smoothed.min()).argmax())

    @property
    def falls(self) -> bool:
        """Whether the loss fell by more than batches differ by chance."""
        averaged = 2 * math.sqrt(math.pi) * self.sigma  # independent losses that have as little noise as a smoothed one
        error = float((self.losses - self.smoothed).std()) / math.sqrt(averaged)
        return bool(self.smoothed[: self.lowest + 1].max() - self.smoothed.min() > FALLS * error)

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest over the logarithm of the rate, before its least."""
        slopes = np.gradient(self.smoothed, np.log(self.rates))[: max(2, self.lowest)]
        return float(self.rates[slopes.argmin()])

    @property
    def tenth(self) -> float:
        """A tenth of the rate of the least loss: there it already begins to rise."""
        return float(self.rates[self.lowest]) / 10


@dataclass(frozen=True)
class FoundRate:
    """What `find_rate` chose, and the tests it rests on: the recipe's own decay first."""

    lr: float
    decay: float
    tests: tuple[RangeTest, ...]

    @property
    def overrides(self) -> list[str]:
        """Of the recipe, for its first stage."""
        stage = "train.stages.0.optimizer"
        return [f"{stage}.lr={self.lr:.2g}", f"{stage}.weight_decay={self.decay:g}"]


def find_rate(
    dataset: Path,
    recipe: Recipe,
    page: Path,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    decays: Sequence[float] = DECAYS,
) -> FoundRate:
    """Test learning rates from `low` to `high` in the recipe's first stage, and write what came of it as a page.

    The rate rises exponentially over `steps` steps, from the recipe's first weights, until the loss diverges (Smith
    2015, arXiv 1506.01186; 2018, arXiv 1803.09820). Chosen is the rate of steepest descent; a tenth of that of the
    least loss stands beside it. Each of `decays` is tested with the same batches; chosen is the largest whose least
    loss is within 2 % of the best one's. All is a function of the recipe's seed.

    Raises ModelError where the loss never falls, and like `train`, before anything is written.
    """
    if not 0 < low < high:
        raise SegsmithError(f"rates must rise from above 0: from {low:g} to {high:g}")
    if steps < 10:
        raise SegsmithError(f"{steps} steps tell nothing; take 10 or more")
    own = recipe.train.stages[0].optimizer.weight_decay
    recipe = recipe.model_copy(update={"search": None})
    check_recipe(recipe)
    opened = Dataset.open(dataset).named(recipe.data.classes)
    rates, cache = np.geomspace(low, high, steps), cache_folder(dataset, recipe.train.cache)
    tester = _Tester(cut(opened, recipe.data), recipe, rates, cache)
    all_decays = list(dict.fromkeys([own, *decays]))
    with memory_told(recipe, tester.workers):
        tests = [tester.test(decay) for decay in track(all_decays, "weight decays", len(all_decays))]
    falling = [test for test in tests if test.falls]
    if not falling:
        raise ModelError(
            f"the loss fell at no learning rate from {low:g} to {high:g} within {steps} steps; try more steps, or look "
            "at what the network sees: segsmith preview"
        )
    best = min(test.smoothed.min() for test in falling)
    as_good = [test for test in falling if test.smoothed.min() <= (1 + AS_GOOD) * best]
    chosen = max(as_good, key=lambda test: test.decay)
    found = FoundRate(chosen.steepest, chosen.decay, tuple(tests))
    write_text(page, _page(recipe, found, chosen))
    return found


class _Diverged(Exception):  # noqa: N818 (it is what a test ends with)
    """The loss is no number any more."""


class _Tester(Training):
    """A training that never gets beyond its first stage, and writes nothing."""

    def __init__(self, chips: Chips, recipe: Recipe, rates: Float64[np.ndarray, " steps"], cache: Path | None):
        super().__init__(chips, recipe, Run(Path()), lambda step: None, ALONE, cache)
        self.rates = rates
        self.done = 0
        self._set_up()
        self.first = copy.deepcopy(self.network.state_dict())

    def test(self, decay: float) -> RangeTest:
        self.recipe = override(self.recipe, [f"train.stages.0.optimizer.weight_decay={decay!r}"])
        self.at.epoch = self.at.step = self.done = 0
        self._enter_stage(None)
        self.network.load_state_dict(self.first)
        losses: list[float] = []
        usual = least = math.inf  # a running mean that stops the test; what is chosen by is smoothed afterwards
        try:
            for loss in self._losses():
                losses.append(loss)
                usual = loss if len(losses) == 1 else 0.8 * usual + 0.2 * loss
                least = min(least, usual)
                if usual > DIVERGED * least:
                    break
        except _Diverged:
            pass
        if len(losses) < 10:
            raise ModelError(f"the loss diverged at a rate of {self.rates[len(losses)]:g} already; begin lower")
        sigma = max(LEAST_SIGMA, len(self.rates) / 25)
        return RangeTest(decay, self.rates[: len(losses)], np.array(losses), sigma)

    def _losses(self) -> Iterator[float]:
        """Of as many steps as there are rates, epoch after epoch."""
        batches = self._stage_batches()
        while self.done < len(self.rates):
            for batch in islice(batches.epoch(self.at.epoch), len(self.rates) - self.done):
                yield self._step(batch)
                self.at.step, self.done = self.at.step + 1, self.done + 1
            self.at.epoch, self.at.step = self.at.epoch + 1, 0

    def _learning_rate(self, step: int) -> float:
        return float(self.rates[self.done])

    def _fail(self, what: str, value: float) -> NoReturn:
        raise _Diverged


def smoothed(losses: Float64[np.ndarray, " steps"], sigma: float) -> Float64[np.ndarray, " steps"]:
    """A Gaussian mean over steps on both sides: one over those before alone would lag, and a rate chosen by it be too
    high."""
    steps = np.arange(len(losses))
    weights = np.exp(-(((steps[:, None] - steps) / sigma) ** 2) / 2)
    return np.asarray(weights @ losses / weights.sum(axis=1))


def _page(recipe: Recipe, found: FoundRate, chosen: RangeTest) -> str:
    own = found.tests[0]
    top = max(float(test.smoothed[0]) for test in found.tests) * 1.2
    y_range = (min(0.0, *(float(test.smoothed.min()) for test in found.tests)), top)
    marks = [(math.log10(found.lr), "chosen"), (math.log10(chosen.tenth), "least / 10")]
    powers = [np.log10(test.rates) for test in found.tests]
    rate_chart = line_chart(
        [
            Line("each batch", np.log10(chosen.rates), chosen.losses, "var(--rule, #c9ced6)"),
            Line("smoothed", np.log10(chosen.rates), chosen.smoothed),
        ],
        title=f"Loss while the rate rises, weight decay {chosen.decay:g}",
        x_label="log10 of the learning rate",
        y_label="loss",
        verticals=marks,
        y_range=y_range,
    )
    decay_chart = line_chart(
        [Line(f"{test.decay:g}", x, test.smoothed) for test, x in zip(found.tests, powers, strict=True)],
        title="The same with other weight decays",
        x_label="log10 of the learning rate",
        y_label="smoothed loss",
        y_range=y_range,
    )
    rows = [
        [f"{t.decay:g}", f"{t.smoothed.min():.4f}", f"{t.rates[t.lowest]:.2g}", f"{t.steepest:.2g}", f"{t.tenth:.2g}",
         "chosen" if t is chosen else "the recipe's" if t is own else ""]
        for t in sorted(found.tests, key=lambda test: test.decay)
    ]  # fmt: skip
    headers = ["weight decay", "least loss", "at a rate of", "steepest descent", "a tenth of that of the least", ""]
    return render_page(
        f"Learning rate: {recipe.name}",
        "Short trainings of the recipe's first stage whose learning rate rises until the loss diverges",
        [("learning rate", f"{found.lr:.2g}"), ("weight decay", f"{found.decay:g}")],
        [
            Section("What to use", [code_block(" ".join(found.overrides))]),
            Section("Learning rate", [chart_grid([rate_chart, decay_chart])]),
            Section(
                "Weight decay",
                [
                    "Chosen is the largest decay whose least loss is within 2 % of the best one's: what it costs a "
                    "long training in overfitting, a test as short as this cannot show.",
                    table(headers, rows, numeric=[0, 1, 2, 3, 4]),
                ],
            ),
        ],
    )
