"""The order of the house, read from its sources: imports run one way, folders are two deep, names say what is made."""

import ast
from pathlib import Path

import pytest

import segsmith

HOUSE = Path(segsmith.__file__).parent
ORDER = (
    "errors types recipe recipe_files files progress cluster listening ahead",
    "data",
    "audit",
    "samples",
    "eda",
    "networks",
    "losses",
    "modeling",
    "tuning",
    "prediction",
    "decision",
    "delivery",
    "service viewer",
    "cli journey",
    "__init__ __main__",
)
FLOOR = {name: number for number, names in enumerate(ORDER) for name in names.split()}
SOURCES = sorted(HOUSE.rglob("*.py"))


def floor(module: str) -> int:
    """How high in the house a module of segsmith stands; the package itself is its roof."""
    return FLOOR[[*module.split("."), "__init__"][1]]


def imported(source: Path) -> list[tuple[int, str]]:
    """Line and full name of every module of segsmith that a source file imports, at any place within it."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: a relative import"
            for alias in node.names:
                below = HOUSE.parent / Path(*(node.module or "").split("."), alias.name)
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                found.append((node.lineno, f"{node.module}.{alias.name}" if is_module else str(node.module)))
    return [(line, name) for line, name in found if name.split(".")[0] == "segsmith"]


def test_there_is_something_to_read():
    assert len(SOURCES) > 30
    assert sum(len(imported(source)) for source in SOURCES) > 100
    assert (9, "segsmith.errors") in [(9, name) for _, name in imported(HOUSE / "files.py")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_run_one_way(source):
    here = floor(".".join(["segsmith", *source.relative_to(HOUSE).with_suffix("").parts]))
    upwards = [f"line {line}: {name}" for line, name in imported(source) if floor(name) > here]
    assert not upwards


@pytest.mark.parametrize("name", segsmith.__all__)
def test_public_names_are_what_they_say_however_often_they_are_asked_for(name):
    first, second = getattr(segsmith, name), getattr(segsmith, name)
    assert callable(first)
    assert first is second


def test_a_name_that_is_not_public_is_said_to_be_absent():
    with pytest.raises(AttributeError, match="module 'segsmith' has no attribute 'fly'"):
        _ = segsmith.fly


def test_folders_are_two_deep_but_for_made_scenes():
    deeper = {source.relative_to(HOUSE).parent.as_posix() for source in SOURCES if source.parent.parent != HOUSE}
    assert {name for name in deeper if "/" in name} == {"data/scenes"}


def test_no_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc", "tools"}
    names = {part for source in SOURCES for part in source.relative_to(HOUSE).with_suffix("").parts}
    assert not names & drawers


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_every_file_says_in_its_first_line_what_it_is_for(source):
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].strip()
