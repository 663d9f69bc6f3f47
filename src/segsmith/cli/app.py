"""The command line as a whole: its commands in the order of the journey, and what a user's mistake ends in."""

import sys
from typing import Any

import typer
import typer.core

from segsmith.cli.printed import RANK
from segsmith.errors import SegsmithError


class Journey(typer.core.TyperGroup):
    """Lists the commands in the order of the journey; groups of commands would stand last otherwise."""

    def list_commands(self, ctx: Any) -> list[str]:
        making = ["demo", "recipe", "inspect", "plan", "chips", "preview", "find-rate", "find-batch", "train", "search"]
        judging = [
            "combine",
            "decide",
            "evaluate",
            "compare",
            "view",
            "runs",
            "review",
            "correct",
            "mine",
            "label",
            "teach",
        ]
        return [*making, "cache", *judging, "export", "predict", "check", "serve"]


app = typer.Typer(
    cls=Journey,
    help="From labelled images of rare things to a segmentation model, and from the model to the files to hand in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels would double the time of --help
)
recipe_app = typer.Typer(help="List, show and check recipes: one file per job.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2, a stop in 130."""
    try:
        app(prog_name="segsmith")
    except SegsmithError as error:
        print(f"segsmith{f' (process {RANK})' if RANK else ''}: {error}", file=sys.stderr)
        stopped = type(error).__name__ == "TrainingStopped"
        sys.exit(130 if stopped else 2)
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of Ctrl-C
            print("segsmith: stopped; nothing half-written was left behind", file=sys.stderr)
        raise
