"""YAML file + `key=value` overrides -> Recipe, refused with file, line and the nearest valid key; Recipe -> YAML."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from segsmith.errors import RecipeError
from segsmith.recipe import Recipe

LARGEST = 10_000
"""Values a recipe may hold."""
SHOWN = 20
"""Of what is wrong with a recipe, at most, and ten times as many characters of each value."""


def recipe_names() -> list[str]:
    """Names of the recipes that come with segsmith, ascending."""
    files = resources.files("segsmith.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a shipped name or a YAML file, with `key=value` overrides applied in order.

    Keys are dotted paths (`train.stages.0.epochs`), values are YAML. Raises RecipeError naming key, value, file, line
    and the nearest valid key.
    """
    path = Path(source)
    if str(source) in recipe_names():
        text = resources.files("segsmith.recipes").joinpath(f"{source}.yaml").read_text()
        label = f"recipe '{source}'"
    elif path.is_file():
        try:
            text, label = path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not YAML: it is no UTF-8 text ({error})") from None
    else:
        near = difflib.get_close_matches(str(source), recipe_names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"shipped recipes: {', '.join(recipe_names())}"
        raise RecipeError(f"no recipe '{source}': neither a file nor a shipped recipe; {hint}")
    tree, lines = _parse_yaml(text, label)
    recipe = _validated(tree, lambda keys, _: _line(lines, keys, label))
    return override(recipe, overrides)


def override(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """The recipe with `key=value` overrides applied in order. Raises RecipeError."""
    tree = recipe.model_dump(mode="json")
    said: dict[tuple[str, ...], str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        keys = tuple(key.strip().split("."))
        if not equals or not all(keys):
            raise RecipeError(f"override '{text}' is not KEY=VALUE, such as train.batch_size=8")
        try:
            parsed = _bounded(yaml.safe_load(value), f"override '{text[:80]}'")
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise RecipeError(f"override '{text}': the value is not YAML: {error}") from None
        _set(tree, keys, parsed, text)
        said[keys] = text
    return _validated(tree, partial(_override_place, said))


def recipe_of(tree: Any, label: str) -> Recipe:
    """The recipe of plain values, such as a bundle holds. Raises RecipeError naming `label`, key and value."""
    return _validated(_bounded(tree, label), lambda *_: label)


def to_yaml(recipe: Recipe, *, explained: bool = False) -> str:
    """The resolved recipe, every option stated; loading it gives the same recipe. `explained` adds each option's
    sentence."""
    if not explained:
        return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return "\n".join(_explained(recipe, 0)) + "\n"


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def _explained(section: BaseModel, depth: int) -> list[str]:
    pad, lines = "  " * depth, []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            lines += [f"{pad}{name}:  # {field.description}", *_explained(value, depth + 1)]
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            lines.append(f"{pad}{name}:  # {field.description}")
            for item in value:
                first, *rest = _explained(item, depth + 2)
                lines += [f"{pad}  - {first.lstrip()}", *rest]
        elif isinstance(value, dict) and value and isinstance(next(iter(value.values())), BaseModel):
            lines.append(f"{pad}{name}:  # {field.description}")
            for key, item in value.items():
                lines += [f"{pad}  {yaml.safe_dump(key).splitlines()[0]}:", *_explained(item, depth + 2)]
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            shown = (
                yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False)
                .removesuffix("\n...\n")
                .strip()
            )
            lines.append(f"{pad}{name}: {shown}  # {field.description}")
    return lines


def _bounded(value: Any, label: str) -> Any:
    """The value, if it is of a size a recipe may have: an alias that stands often can make a short text endless."""
    left, seen = [value], 0
    while left:
        seen += 1
        if seen > LARGEST:
            raise RecipeError(f"{label} holds more than {LARGEST:,} values, with those that aliases repeat")
        node = left.pop()
        left.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    return value


def _parse_yaml(text: str, label: str) -> tuple[dict[Any, Any], dict[tuple[str, ...], int]]:
    """The tree of a YAML text and the line of each dotted path; a key that stands twice is refused."""
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: yaml.Node, keys: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*keys, str(key.value))
                line = key.start_mark.line + 1
                if here in lines:
                    raise RecipeError(f"{label}, line {line}: {'.'.join(here)} already stands in line {lines[here]}")
                lines[here] = line
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[(*keys, str(index))] = value.start_mark.line + 1
                walk(value, (*keys, str(index)))

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}, lines
        tree = _bounded(yaml.safe_load(text), label)
        walk(node, ())
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RecipeError(f"{label} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{label} must hold keys and values, not a {type(tree).__name__}")
    return tree, lines


def _line(lines: Mapping[tuple[str, ...], int], keys: tuple[str, ...], label: str) -> str:
    known = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    return f"{label}, line {lines[known]}" if known else label


def _override_place(said: Mapping[tuple[str, ...], str], keys: tuple[str, ...], message: str) -> str:
    """The last override that may be to blame; of those within a section, one whose key the message names."""
    related = {path: text for path, text in said.items() if path[: len(keys)] == keys or keys[: len(path)] == path}
    named = [text for path, text in related.items() if path[-1] in message]
    return f"override '{(named or list(related.values()))[-1]}'" if related else "overrides"


def _set(tree: Any, keys: Sequence[str], value: Any, text: str) -> None:
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth]) or "the recipe"
        if isinstance(tree, list):
            if not key.isdigit() or int(key) >= len(tree):
                raise RecipeError(f"override '{text}': {where} has entries 0 to {len(tree) - 1}, not '{key}'")
            slot: Any = int(key)
        elif isinstance(tree, dict):
            slot = key
        else:
            raise RecipeError(f"override '{text}': {where} is a value ({tree!r}) and has no key '{key}'")
        if depth == len(keys) - 1:
            tree[slot] = value
        else:
            if isinstance(tree, dict) and tree.get(slot) is None:
                tree[slot] = {}
            tree = tree[slot]


def _validated(tree: Any, place: Callable[[tuple[str, ...], str], str]) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems = []
        by_path: dict[tuple[str, ...], list[ErrorDetails]] = {}
        for problem in error.errors():
            by_path.setdefault(_path(tree, problem), []).append(problem)
        around = {keys[:count] for keys in by_path for count in range(len(keys))}
        for keys, (problem, *others) in by_path.items():
            if keys in around:
                continue  # it fails only because something inside it does
            name = ".".join(keys) or "recipe"
            if problem["type"] == "extra_forbidden":
                valid = list(_fields_at(keys[:-1]))
                near = difflib.get_close_matches(keys[-1], valid, n=1) + [
                    key for key in valid if key.startswith(f"{keys[-1]}_")
                ]
                likely = " or ".join(f"'{key}'" for key in dict.fromkeys(near))
                hint = f"did you mean {likely}?" if near else f"valid keys: {', '.join(valid)}"
                said = f"{name}: unknown key; {hint}"
            elif problem["type"] == "string_pattern_mismatch":  # only names of heads have a pattern
                said = f"{name}: a name is of small letters, digits and _, a letter first (got {problem['input']!r})"
            elif problem["type"] in ("model_type", "dict_type"):
                said = f"{name}: holds options of its own, as {name}.KEY=VALUE (got {problem['input']!r})"
            else:
                told = [each["msg"].removeprefix("Value error, ") for each in (problem, *others)]
                message = ", or ".join(told[:1] + [other.removeprefix("Input should be ") for other in told[1:]])
                message = message.replace("a valid tuple", "a list")
                value = repr(problem["input"])[: 10 * SHOWN]
                got = "" if isinstance(problem["input"], dict | BaseModel) else f" (got {value})"
                near = difflib.get_close_matches(
                    str(problem["input"])[: 10 * SHOWN], re.findall(r"'([^']+)'", message), n=1
                )
                said = f"{name}: {message}{got}" + (f"; did you mean '{near[0]}'?" if near else "")
            problems.append(f"{place(keys, said)}: {said}")
        more = [f"and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
        raise RecipeError("\n".join(problems[:SHOWN] + more)) from None


def _path(tree: Any, problem: ErrorDetails) -> tuple[str, ...]:
    """The keys of what is wrong, without pydantic's names for the kinds of value that one key may have."""
    keys: list[str] = []
    for part in problem["loc"]:
        inside = dict(enumerate(tree)) if isinstance(tree, list) else tree
        if isinstance(inside, dict) and part in inside:
            tree = inside[part]
            keys.append(str(part))
    missing = problem["loc"][-1:] if problem["type"] == "missing" else ()
    return (*keys, *map(str, missing))


def _fields_at(keys: Sequence[str]) -> dict[str, FieldInfo]:
    """The fields valid at a dotted path, found by following the annotations."""
    model: type[BaseModel] = Recipe
    for key in keys:
        if key not in model.model_fields:  # the number of an entry, or its name
            continue
        annotation = model.model_fields[key].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return dict(model.model_fields)
