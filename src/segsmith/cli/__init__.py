"""Parse -> one library call -> print. Heavy imports stand inside the commands, which --help does not need."""

from segsmith.cli import data, delivery, judging, recipes, teaching, training  # noqa: F401  each adds its commands
from segsmith.cli.app import main

__all__ = ["main"]
