"""Which images make up a batch: a pure function of seed, stage and epoch, so that any step can be gone back to.

With a mix, every batch, and the epoch up to it, hold the stated shares of empty, single-object and multi-object
images to within one image, and each group is gone through whole before any of its images comes again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from segsmith import recipe
from segsmith.errors import DataError

Indices = Int[np.ndarray, " _"]
NUMBER_WORDS = {"empty": "no", "single": "one", "multi": "several"}


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

    @property
    def images(self) -> int:
        return self.batches * self.batch_size

    @property
    def repeats(self) -> dict[str, float]:
        """How often an image of each group is drawn in an epoch, for groups where that is more than once."""
        drawn = {
            name: self.images * share / len(group)
            for name, share, group in zip(self.names, self.shares, self.groups, strict=True)
        }
        return {name: times for name, times in drawn.items() if times > 1 + 1e-9}

    def draw(self, epoch: int, weights: Float[np.ndarray, " images"] | None = None) -> Int[np.ndarray, "batches batch"]:
        """Image numbers of every batch of an epoch.

        With `weights[image]` (finite, above 0), an image comes in proportion to its weight within its group, its
        expected count rounded down or up; equal weights draw as none do. Raises ValueError for other weights.
        """
        if weights is not None and not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError("weights of images must be finite and above 0")
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
    """Draw weights from 1 to `largest`: averaged loss over the mean of those seen; NaN (not seen) gives 1."""
    seen = np.isfinite(losses)
    mean = float(losses[seen].mean()) if seen.any() else 0.0
    if mean <= 0:
        return np.ones(len(losses))
    return np.clip(np.where(seen, losses / mean, 1.0), 1.0, largest)


def plan_epochs(
    indices: Sequence[int] | Indices,
    objects: Int[np.ndarray, " images"],
    stage_number: int,
    stage: recipe.Stage,
    batch_size: int,
    seed: int,
) -> EpochPlan:
    """The plan for one stage over the training images `indices`, whose objects are counted in `objects[index]`.

    Without a mix an epoch is every image once (up to batch_size - 1 fewer, others each epoch). With one, it is as
    many as can be drawn without repeating any, unless images_per_epoch asks for more. Raises DataError when the mix
    asks for a group that has no image.
    """
    indices = np.asarray(indices, np.int64)
    if stage.mix is None:
        groups, names, weights = [indices], ["all"], [1.0]
    else:
        counts = objects[indices]
        groups = [indices[counts == 0], indices[counts == 1], indices[counts > 1]]
        names, weights = list(NUMBER_WORDS), [stage.mix.empty, stage.mix.single, stage.mix.multi]
        for name, group, weight in zip(names, groups, weights, strict=True):
            if weight and not len(group):
                raise DataError(
                    f"train.stages.{stage_number}.mix.{name} is {weight:g}, but no training image has "
                    f"{NUMBER_WORDS[name]} objects; set it to 0"
                )
    kept = [n for n, weight in enumerate(weights) if weight]
    shares = tuple(weights[n] / sum(weights) for n in kept)
    batch_size = min(batch_size, len(indices))
    most = min(len(groups[n]) / share for n, share in zip(kept, shares, strict=True))
    images = stage.images_per_epoch or int(most + 1e-9)
    return EpochPlan(
        groups=tuple(groups[n] for n in kept),
        shares=shares,
        names=tuple(names[n] for n in kept),
        batch_size=batch_size,
        batches=max(1, images // batch_size),
        seed=seed,
        stage=stage_number,
    )
