"""Arguments and options that several commands take, and texts of options read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segsmith.errors import SegsmithError

if TYPE_CHECKING:
    from segsmith.types import HW

DatasetFolder = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Dataset folder that inspect wrote.", show_default=False)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that train wrote.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe options, such as train.stages.0.epochs=3.")
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", "-r", help="Name of a shipped recipe, or a YAML file.", show_default=False)
]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="local|ADDRESS", help="Spread over Dask workers: here, or of the scheduler at an address."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of --cluster local.")]
BackendChoice = Annotated[
    str,
    typer.Option(
        "--backend",
        help="What runs the networks: torch, onnxruntime, onnxruntime-int8, openvino, openvino-int8, aotinductor; "
        "auto takes the fastest that export found to score as PyTorch does.",
    ),
]


def numbers_of(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise SegsmithError(f"{option} '{text}' is not numbers with commas between them, such as 2,1,1") from None


def size_of(option: str, text: str) -> "HW":
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) * int(width) < 2**31):
        raise SegsmithError(f"{option} '{text}' is not HEIGHTxWIDTH in pixels, such as 768x768")
    return int(height), int(width)
