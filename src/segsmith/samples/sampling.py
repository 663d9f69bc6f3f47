"""Which images make up a batch: a pure function of seed, stage and epoch, so that any step can be gone back to.

With a mix, every batch, and the epoch up to it, hold the stated shares of each stratum to within one sample, and each
stratum is gone through whole before any of its samples comes again; or, with weights, as often as each is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from segsmith import recipe
from segsmith.errors import DataError
from segsmith.samples.strata import Strata

Indices = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class EpochPlan:
    """How an epoch of a stage is drawn; `draw(epoch)` gives its batches."""

    groups: tuple[Indices, ...]
    shares: tuple[float, ...]
    names: tuple[str, ...]
    batch_size: int
    batches: int
    seed: int
    stage: int
    weights: Float[np.ndarray, " samples"] | None = None
    """How often each sample is drawn, relative to the others of its group; None draws alike."""
    left_out: int = 0
    """Training samples that fit no stratum of the mix, or have a weight of 0."""

    @property
    def images(self) -> int:
        return self.batches * self.batch_size

    @property
    def repeats(self) -> dict[str, float]:
        """How often an image of each group is drawn in an epoch, for groups where that is more than once."""
        drawn = {
            name: self.images * share / _before_one_repeats(group, self.weights)
            for name, share, group in zip(self.names, self.shares, self.groups, strict=True)
        }
        return {name: times for name, times in drawn.items() if times > 1 + 1e-9}

    def draw(self, epoch: int, harder: Float[np.ndarray, " samples"] | None = None) -> Int[np.ndarray, "batches batch"]:
        """Sample numbers of every batch of an epoch.

        `harder[sample]`, 1 or more, multiplies the plan's weights. A sample comes in proportion to its weight within
        its group, its expected count rounded down or up; equal weights draw as none do.
        """
        weights = self.weights
        if harder is not None:
            weights = harder if weights is None else weights * harder
        chosen = []
        for number, (group, quota) in enumerate(zip(self.groups, self._quotas(), strict=True)):
            if weights is not None and np.ptp(weights[group]) > 0:
                generator = np.random.default_rng([self.seed, self.stage, epoch, number, 0])
                drawn = systematic_draw(group, weights[group], int(quota.sum()), generator)
                chosen.append(np.split(drawn, np.cumsum(quota))[:-1])
                continue
            rounds = -(-int(quota.sum()) // len(group)) if quota.sum() else 0
            orders = [
                np.random.default_rng([self.seed, self.stage, epoch, number, r]).permutation(group)
                for r in range(rounds)
            ]
            chosen.append(np.split(np.concatenate(orders) if orders else group[:0], np.cumsum(quota))[:-1])
        batches = np.array([np.concatenate(parts) for parts in zip(*chosen, strict=True)], np.int64)
        return np.random.default_rng([self.seed, self.stage, epoch]).permuted(batches, axis=1)

    def _quotas(self) -> list[Int[np.ndarray, " batches"]]:
        """Images of each group in each batch: its share rounded down, and one more for the groups that are owed
        most."""
        fair = self.batch_size * np.array(self.shares)
        quotas = np.tile(np.floor(fair + 1e-9).astype(np.int64), (self.batches, 1))
        left = self.batch_size - int(quotas[0].sum())
        owed = np.zeros(len(fair))
        for quota in quotas:
            owed += fair - quota
            most = np.argsort(-owed.round(9), kind="stable")[:left]
            quota[most] += 1
            owed[most] -= 1
        return list(quotas.T)


def systematic_draw(
    group: Indices, weights: Float[np.ndarray, " group"], count: int, generator: np.random.Generator
) -> Indices:
    """`count` entries of `group` in random order, each as often as count * weight / sum(weights) rounded down or up.

    Systematic sampling (Madow 1949) over a shuffled group. Weights are finite and above 0.
    """
    order = generator.permutation(len(group))
    edges = np.concatenate([[0.0], np.cumsum(weights[order])])
    edges *= count / edges[-1]
    edges[-1] = count
    times = np.diff(np.ceil(edges - generator.random())).astype(np.int64)
    return generator.permutation(np.repeat(group[order], times))


def hard_weights(losses: Float[np.ndarray, " images"], largest: float) -> Float[np.ndarray, " images"]:
    """Draw weights from 1 to `largest`: each loss over the mean of those seen; NaN (not seen) gives 1."""
    seen = np.isfinite(losses)
    mean = float(losses[seen].mean()) if seen.any() else 0.0
    if mean <= 0:
        return np.ones(len(losses))
    return np.clip(np.where(seen, losses / mean, 1.0), 1.0, largest)


def plan_epochs(
    indices: Sequence[int] | Indices, strata: Strata, stage_number: int, stage: recipe.Stage, batch_size: int, seed: int
) -> EpochPlan:
    """The plan for one stage over the training samples `indices`, of which `strata` tells what each holds.

    Without a mix an epoch is every sample once (up to batch_size - 1 fewer, others each epoch). With one, it is as
    many as can be drawn without repeating any, unless images_per_epoch asks for more. Raises DataError when the mix
    asks for a stratum that has no sample.
    """
    indices = np.asarray(indices, np.int64)
    drawn = indices[strata.weight[indices] > 0]
    if not len(drawn):
        raise DataError("every training image is of a source of weight 0; set data.sources")
    groups, names, shares = [drawn], ["all"], [1.0]
    if stage.mix is not None:
        kept = {name: share for name, share in stage.mix.items() if share}
        names, shares = list(kept), [share / sum(kept.values()) for share in kept.values()]
        groups = _first_fit(drawn, strata, list(stage.mix))
        groups = [group for group, share in zip(groups, stage.mix.values(), strict=True) if share]
        for name, group in zip(names, groups, strict=True):
            if not len(group):
                raise DataError(
                    f"train.stages.{stage_number}.mix.{name} is {kept[name]:g}, but no training image is of that "
                    "stratum alone or first; set it to 0"
                )
    weights = None if np.ptp(strata.weight[drawn]) == 0 else strata.weight
    batch_size = min(batch_size, len(drawn))
    most = min(_before_one_repeats(group, weights) / share for group, share in zip(groups, shares, strict=True))
    images = stage.images_per_epoch or int(most + 1e-9)
    return EpochPlan(
        groups=tuple(groups),
        shares=tuple(shares),
        names=tuple(names),
        batch_size=batch_size,
        batches=max(1, images // batch_size),
        seed=seed,
        stage=stage_number,
        weights=weights,
        left_out=len(indices) - sum(map(len, groups)),
    )


def _first_fit(samples: Indices, strata: Strata, names: Sequence[str]) -> list[Indices]:
    """The samples of each stratum, each in the first one that it fits; those that fit none are in none."""
    groups, free = [], np.ones(len(samples), bool)
    for name in names:
        fits = free & strata.of(name)[samples]
        groups.append(samples[fits])
        free &= ~fits
    return groups


def _before_one_repeats(group: Indices, weights: Float[np.ndarray, " samples"] | None) -> float:
    """How many draws from a group bring its heaviest sample once."""
    return float(len(group)) if weights is None else float(weights[group].sum() / weights[group].max())
