"""A network with its weights -> a package of machine code for this machine's processor, by AOTInductor."""

import os
import shutil
from pathlib import Path

import torch

from segsmith.errors import ModelError
from segsmith.modeling.traced import example, quiet, reason, traced
from segsmith.networks.networks import Network
from segsmith.recipe import Recipe


def missing_compiler() -> str | None:
    """What is to be installed before a network can be compiled; None where it is there."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else f"there is no C++ compiler {compiler} (apt-get install g++, or set CXX)"


def write_package(network: Network, recipe: Recipe, file: Path) -> None:
    """Write a network as a package (.pt2) that PyTorch loads, in float32, of the inputs and outputs that `write_onnx`
    tells of. It holds code for processors like this one, to be loaded by the PyTorch that wrote it alone.

    Takes from half a minute to some minutes. Raises ModelError for a network that does not compile.
    """
    from torch._inductor import aoti_compile_and_package

    images, sizes = example(network)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(traced(network, recipe), (images,), dynamic_shapes=(sizes,))
            # threads as many as there are when it runs, not as there were when it was compiled
            aoti_compile_and_package(program, package_path=str(file), inductor_configs={"cpp.dynamic_threads": True})
    except Exception as error:
        raise ModelError(
            f"network: {recipe.network.architecture} with {recipe.network.encoder} does not compile ({reason(error)})"
        ) from error
