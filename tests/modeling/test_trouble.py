"""When losses have exploded, and what is said when memory runs out."""

import math

import pytest
import torch

from segsmith.errors import ModelError
from segsmith.modeling.trouble import IN_A_ROW, LossHistory, memory_told
from segsmith.recipe_files import override


def first_explosion(losses: list[float]) -> int | None:
    """The step at which training would stop."""
    history = LossHistory()
    return next((step for step, loss in enumerate(losses) if history.exploded(loss)), None)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_at_once(loss):
    assert first_explosion([0.5, 0.4, loss]) == 2


def test_wild_losses_stop_once_there_are_ten_in_a_row():
    assert first_explosion([0.5] * 20 + [1e6] * 30) == 20 + IN_A_ROW - 1
    assert first_explosion([0.5] * 20 + [2.0**step for step in range(60)]) == 20 + 10 + IN_A_ROW - 1 - 1


@pytest.mark.parametrize(
    "losses",
    [
        [0.5] * 20 + ([1e6] * 9 + [0.5]) * 10,  # never ten in a row
        [0.5 * 0.9**step for step in range(200)] + [0.45] * 50,  # next to nothing, then as at the beginning
        [0.5] * 20 + [400.0] * 50,  # bad, and maybe on its way back
        [0.0] * 50,
    ],
)
def test_losses_that_training_may_come_back_from(losses):
    assert first_explosion(losses) is None


def test_a_history_goes_on_where_it_was():
    """A checkpoint within wild steps does not begin to count anew."""
    history = LossHistory()
    for loss in [0.5] * 20 + [1e6] * 5:
        assert not history.exploded(loss)
    again = LossHistory(**vars(history))
    assert [again.exploded(1e6) for _ in range(5)] == [False] * 4 + [True]


TOO_MUCH = 2**60


def test_memory_that_runs_out_says_what_to_lower(tiny):
    large = override(tiny, ["train.batch_size=12", "train.accumulate=2", "data.input_hw=[64, 32]"])
    with pytest.raises(ModelError) as caught, memory_told(large, workers=3):
        torch.empty(TOO_MUCH)
    assert str(caught.value).startswith(
        "out of memory: train.batch_size=12 with train.accumulate=2 is passes of 6 images of 64 x 32 pixels, "
        "predict.batch_size=16, train.workers=3; set train.accumulate=3 (the same steps in smaller passes), or lower "
        "data.input_hw, train.batch_size, predict.batch_size or train.workers ("
    )


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError("Unable to")])
def test_memory_of_a_gpu_and_of_numpy(tiny, error):
    with pytest.raises(ModelError, match="out of memory"), memory_told(tiny, workers=0):
        raise error


def test_passes_of_one_image_cannot_be_made_smaller(tiny):
    with pytest.raises(ModelError) as caught, memory_told(override(tiny, ["train.accumulate=4"]), workers=0):
        torch.empty(TOO_MUCH)
    assert "set train.accumulate" not in str(caught.value)


def test_other_errors_pass(tiny):
    with pytest.raises(RuntimeError, match="cannot be multiplied"), memory_told(tiny, workers=0):
        torch.ones(2, 3) @ torch.ones(2, 3)
