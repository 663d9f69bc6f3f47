"""Exports within tests, which check shapes."""

from collections.abc import Callable

import jaxtyping


def unchecked(write: Callable[..., None]) -> Callable[..., None]:
    """Without the check of shapes, which does not know the symbols that sizes are while PyTorch traces."""

    def written(*arguments: object) -> None:
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            write(*arguments)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    return written
