"""Whose networks an image is predicted by. Each network here answers with one level, by which it is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segsmith.errors import RunError
from segsmith.modeling.bundle import Bundle, Part
from segsmith.modeling.run import Run
from segsmith.prediction.out_of_fold import predict_part

LOGITS = {0: -2.0, 2: 0.5, 3: 3.0}
"""Of the networks that were validated on a fold; fold 1 is held out."""


def level(*logits: float) -> int:
    return round(255 * float(np.mean([1 / (1 + np.exp(-logit)) for logit in logits])))


@pytest.fixture
def run(make_run) -> Run:
    """Of three networks, none of whose probabilities is there yet."""
    planes = [np.zeros((12, 14), bool)] * 24
    planes[5] = np.ones((12, 14), bool)
    options = ("folds.count=4", "folds.held_out=1", "folds.validation=all", "data.input_hw=[32,32]")
    made = make_run(planes, [plane.astype(np.uint8) for plane in planes], *options)
    opened = Run(made.folder)
    bundle = Bundle.read(opened.bundle)
    (weights,) = bundle.members

    def always(logit: float) -> dict[str, torch.Tensor]:
        head = {name: torch.zeros_like(tensor) for name, tensor in weights.items() if "segmentation_head" in name}
        (bias,) = (name for name in head if name.endswith("bias"))
        return {name: tensor.clone() for name, tensor in (weights | head | {bias: torch.tensor([logit])}).items()}

    replace(bundle, members=tuple(always(logit) for logit in LOGITS.values())).write(opened.bundle)
    for file in opened.probabilities.rglob("*.png"):
        file.unlink()
    return opened


def test_an_image_is_predicted_by_the_networks_of_its_fold(run):
    chips, bundle = run.chips(), Bundle.read(run.bundle)
    fold_of = run.folds(chips)
    indices, files = predict_part(run, bundle, chips, "validation")
    assert {fold_of[index] for index in indices} == {0, 2, 3}
    for index in indices:
        assert np.unique(files.read(chips.id(index))).tolist() == [level(LOGITS[fold_of[index]])]
    indices, files = predict_part(run, bundle, chips, "held_out")
    assert {fold_of[index] for index in indices} == {1}
    for index in indices:
        assert np.abs(files.read(chips.id(index)).astype(int) - level(*LOGITS.values())).max() <= 1


def test_a_combined_run_does_not_predict_what_its_parts_were_trained_on(run):
    bundle = Bundle.read(run.bundle)
    combined = replace(bundle, members=(), parts=(Part(1.0, bundle),))
    with pytest.raises(RunError, match=r"probabilities of 18 validation images are gone, such as i.*combine the runs"):
        predict_part(run, combined, run.chips(), "validation")
