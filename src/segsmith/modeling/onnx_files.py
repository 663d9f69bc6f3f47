"""A network with its weights -> an ONNX file from 8-bit images to probabilities, in float32 or in int8."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segsmith.errors import ModelError
from segsmith.modeling.networks import Network
from segsmith.modeling.objective import plane_probabilities, presence_probabilities
from segsmith.recipe import Recipe

IMAGES, PLANES, PRESENCE = "images", "planes", "presence"
"""Names of the input and of the outputs, in this order; presence only of networks with a head of that kind."""

Seen = UInt8[np.ndarray, "_batch channels _height _width"]


class _Probabilities(nn.Module):
    """A network whose outputs are what they mean."""

    def __init__(self, network: Network, recipe: Recipe):
        super().__init__()
        self.network, self.recipe = network, recipe

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> tuple[Float[Tensor, "..."], ...]:
        outputs = self.network(images)
        planes = plane_probabilities(self.recipe, outputs)
        presence = presence_probabilities(self.recipe, outputs)
        return (planes,) if presence is None else (planes, presence)


def write_onnx(network: Network, recipe: Recipe, file: Path, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX, normalisation and sigmoid (or softmax) within it.

        images     uint8 (batch, channels, height, width), 0..255, sides multiples of the network's stride
        planes     float32 (batch, planes, height, width), 0..1: `Bundle.planes`
        presence   float32 (batch, classes), 0..1, of networks with a head of that kind

    A network that takes off the mean image takes images of that size alone. `facts` become the file's metadata. Raises
    ModelError for a network that does not export.
    """
    height, width = (max(2, -(-64 // network.stride)) * network.stride for _ in "hw")
    sizes: dict[int, Any] = {0: torch.export.Dim("batch")}
    if network.mean_image is None:  # written as so many strides, since decoders lay features of several sizes together
        sizes |= {2: network.stride * torch.export.Dim("rows"), 3: network.stride * torch.export.Dim("columns")}
    else:
        height, width = network.mean_image.shape[2:]
    images = torch.zeros((2, network.mean.shape[1], height, width), dtype=torch.uint8)
    has_presence = any(head.kind == "presence" for head in recipe.network.heads.values())
    outputs = [PLANES, PRESENCE] if has_presence else [PLANES]
    try:
        with _quiet():
            program = torch.onnx.export(
                _Probabilities(network.cpu().eval(), recipe).eval(),
                (images,),
                input_names=[IMAGES],
                output_names=outputs,
                dynamic_shapes={IMAGES: sizes},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # kinds of a dozen modules of torch
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"network: {recipe.network.architecture} with {recipe.network.encoder} does not export to ONNX "
            f"({reason[0]}); it predicts with PyTorch alone"
        ) from error
    assert program is not None
    program.model.metadata_props.update(facts)
    program.save(file)


def write_int8(file: Path, images: Sequence[Seen], quantised: Path) -> None:
    """Write what `write_onnx` wrote with weights and activations of 8 bits, as pairs of QuantizeLinear and
    DequantizeLinear (QDQ; Jacob et al. 2018, arXiv 1712.05877), the ranges of activations as `images` make them.

    Ranges leave out a hundred-thousandth of the values: one outlier would coarsen all others. Of a ResNet-18 trained on
    steel that made the largest difference 14 levels instead of 67, the mean one 0.65 instead of 1.22.

    Weights have a scale for each channel and keep to 7 bits: without VNNI, sums of two products of 8 bits overflow
    16 bits on x86, and what a file says would depend on the processor.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = quantised.with_suffix(".prepared")
    try:
        with _quiet():
            quant_pre_process(file, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantised,
                _Calibration(images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"WeightSymmetric": True, "CalibPercentile": 99.999, "CalibStridedMinMax": 1},
            )
    finally:
        prepared.unlink(missing_ok=True)


class _Calibration:
    """What quantize_static asks its images of, one batch at a time: it would hold all that any layer says of all."""

    def __init__(self, batches: Sequence[Seen]):
        self.batches, self._given = batches, iter(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._given = iter(self.batches[start_index:end_index])

    def get_next(self) -> dict[str, Seen] | None:
        images = next(self._given, None)
        return None if images is None else {IMAGES: images}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters tell those who wrote the network."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
