"""How fast a machine trains: measured, not guessed."""

from segsmith.recipe import Recipe
from segsmith.tuning.training_rate import training_rate


def test_the_rate_falls_with_the_size():
    small, large = (
        Recipe.model_validate(
            {"network": {"encoder": "tu-test_resnet", "encoder_weights": None}, "data": {"input_hw": [side, side]}}
        )
        for side in (32, 256)
    )
    assert training_rate(small, 3, 1) > 4 * training_rate(large, 3, 1) > 0
