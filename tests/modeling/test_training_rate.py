"""How fast a machine trains: measured, not guessed."""

from segsmith.modeling.training_rate import training_rate
from segsmith.recipe import Recipe


def test_the_rate_falls_with_the_size():
    small, large = (
        Recipe.model_validate(
            {"network": {"encoder": "tu-test_resnet", "encoder_weights": None}, "data": {"input_hw": [side, side]}}
        )
        for side in (32, 256)
    )
    assert training_rate(small, 3, 1) > 4 * training_rate(large, 3, 1) > 0
