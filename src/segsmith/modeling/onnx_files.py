"""A network with its weights -> an ONNX file from 8-bit images to probabilities, in float32 or in int8."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from segsmith.errors import ModelError
from segsmith.modeling.traced import example, quiet, reason, traced
from segsmith.networks.networks import Network
from segsmith.recipe import Recipe

IMAGES, PLANES, PRESENCE = "images", "planes", "presence"
"""Names of the input and of the outputs, in this order; presence only of networks with a head of that kind."""

Seen = UInt8[np.ndarray, "_batch channels _height _width"]


def write_onnx(network: Network, recipe: Recipe, file: Path, facts: Mapping[str, str]) -> None:
    """Write a network as ONNX, normalisation and sigmoid (or softmax) within it.

        images     uint8 (batch, channels, height, width), 0..255, sides multiples of the network's stride
        planes     float32 (batch, planes, height, width), 0..1: `Bundle.planes`
        presence   float32 (batch, classes), 0..1, of networks with a head of that kind

    A network that takes off the mean image takes images of that size alone. `facts` become the file's metadata. Raises
    ModelError for a network that does not export.
    """
    images, sizes = example(network)
    has_presence = any(head.kind == "presence" for head in recipe.network.heads.values())
    outputs = [PLANES, PRESENCE] if has_presence else [PLANES]
    try:
        with quiet():
            program = torch.onnx.export(
                traced(network, recipe),
                (images,),
                input_names=[IMAGES],
                output_names=outputs,
                dynamic_shapes={IMAGES: sizes},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise ModelError(
            f"network: {recipe.network.architecture} with {recipe.network.encoder} does not export to ONNX "
            f"({reason(error)}); it predicts with PyTorch alone"
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
        with quiet():
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
