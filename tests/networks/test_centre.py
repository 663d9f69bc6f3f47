"""Centre blocks: they keep the shape, and what defines each of them."""

import pytest
import torch
from segmentation_models_pytorch.decoders.pan.decoder import FPABlock
from torch import Tensor, nn

from segsmith.networks.centre import (
    CENTRES,
    FeaturePyramidAttention,
    GlobalConvolution,
    ObjectContext,
    PyramidPooling,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shuffled(features: Tensor, order: Tensor) -> Tensor:
    return features.flatten(2)[..., order].reshape(features.shape)


@pytest.mark.parametrize("name", CENTRES)
@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (7, 7), (8, 50)])
def test_shape_stays(name, hw):
    features = torch.rand(2, 12, *hw)
    assert CENTRES[name](12).eval()(features).shape == features.shape


@pytest.mark.parametrize("name", CENTRES)
def test_a_batch_of_one_trains(name):
    block = CENTRES[name](12).train()
    block(torch.rand(1, 12, 9, 9)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters())


def test_pyramid_attention_is_the_librarys_where_that_takes_the_size():
    block = FeaturePyramidAttention(12).eval()
    features = torch.rand(2, 12, 16, 24)
    assert torch.allclose(block(features), FPABlock.forward(block, features), atol=1e-6)


def test_pyramid_attention_multiplies_features_by_one_map():
    """All channels of a pixel by the same; what is added is the same at every pixel."""
    block, features = FeaturePyramidAttention(12).eval(), torch.rand(2, 12, 7, 7)
    with torch.no_grad():
        maps = (block(features) - block.branch1(features)) / block.mid(features)
    lit = block.mid(features) > 1e-3
    for sample in range(2):
        spread = torch.where(lit, maps, torch.nan)[sample].flatten(1)
        for pixel in spread.T:
            seen = pixel[pixel.isfinite()]
            assert seen.numel() == 0 or float(seen.max() - seen.min()) < 1e-3
    assert block.branch1(features).shape == (2, 12, 1, 1)


@pytest.mark.parametrize("size", [3, 7, 15])
def test_global_convolution_sees_a_dense_square(size):
    features = torch.rand(1, 8, 31, 31, requires_grad=True)
    GlobalConvolution(8, size)(features)[0, :, 15, 15].sum().backward()
    seen = features.grad.abs().sum(dim=(0, 1)) > 0
    expected = torch.zeros(31, 31, dtype=torch.bool)
    reach = size // 2
    expected[15 - reach : 16 + reach, 15 - reach : 16 + reach] = True
    assert torch.equal(seen, expected)


def test_object_context_knows_pixels_by_what_they_are_not_by_where():
    block, features, order = ObjectContext(12).eval(), torch.rand(2, 12, 5, 6), torch.randperm(30)
    assert torch.allclose(block(shuffled(features, order)), shuffled(block(features), order), atol=1e-5)


def test_object_context_depends_on_every_pixel():
    features = torch.rand(1, 12, 5, 6, requires_grad=True)
    ObjectContext(12).eval()(features)[0, :, 0, 0].sum().backward()
    assert (features.grad.abs().sum(dim=(0, 1)) > 0).all()


def test_object_context_of_pixels_alike_is_the_mean_value():
    """Where every pixel is as similar as any other, weights are equal."""
    block, features = ObjectContext(12).eval(), torch.rand(1, 12, 4, 4)
    for convolution in (block.query[0], block.key[0]):
        nn.init.zeros_(convolution.weight)
    mean = block.value(features).mean(dim=(2, 3), keepdim=True).expand(-1, -1, 4, 4)
    assert torch.allclose(block(features), block.merged(torch.cat([features, mean], dim=1)), atol=1e-5)


def test_pyramid_pooling_starts_from_the_global_mean():
    """Its coarsest level is the same at every pixel, wherever the features lie."""
    block, features, order = PyramidPooling(12).eval(), torch.rand(2, 12, 6, 6), torch.randperm(36)
    level = block.pyramid.blocks[0](features)
    mean = block.pyramid.blocks[0].pool[1](features.mean(dim=(2, 3), keepdim=True))
    assert torch.allclose(level, mean.expand_as(level), atol=1e-6)
    assert torch.allclose(level, block.pyramid.blocks[0](shuffled(features, order)), atol=1e-6)


def test_pyramid_pooling_ends_at_cells_of_a_sixth():
    """The finest level tells the cells of a 6x6 grid apart, and nothing within them."""
    block = PyramidPooling(8).eval()
    cells = torch.rand(1, 8, 6, 6)
    features = cells.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    noise = torch.rand(1, 8, 18, 18)
    noise -= nn.functional.avg_pool2d(noise, 3).repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    level = block.pyramid.blocks[-1]
    assert level.pool_size == 6
    assert torch.allclose(level(features + noise), level(features), atol=1e-5)
    assert not torch.allclose(level(features), level(features.flip(3)), atol=1e-3)
