"""Commands of recipes: which there are, what each says, what may stand in one."""

import json
from typing import Annotated

import typer

from segsmith.cli.app import recipe_app
from segsmith.cli.options import Overrides
from segsmith.cli.printed import out


@recipe_app.command("list")
def recipe_list() -> None:
    """Names of the shipped recipes."""
    from segsmith.recipe_files import recipe_names

    for name in recipe_names():
        out.print(name)


@recipe_app.command("show")
def recipe_show(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a YAML file.", show_default=False)],
    overrides: Overrides = None,
) -> None:
    """A recipe as resolved: every option with its value and what it does."""
    from segsmith.recipe_files import load_recipe, to_yaml

    print(to_yaml(load_recipe(recipe, overrides or []), explained=True), end="")


@recipe_app.command("schema")
def recipe_schema() -> None:
    """JSON Schema of recipe files, for editors."""
    from segsmith.recipe_files import recipe_schema as schema

    print(json.dumps(schema(), indent=2))
