"""CSV of classes -> their names, each with the number or the colour it has in the labels.

class,name            how a class is written in a CSV or in an index mask, and its name
name,red,green,blue   the colour of a class in colour masks, 0 to 255; `r,g,b` will do

A row named background is no class; one named ignore stands for pixels of masks whose truth is left open.
"""

from pathlib import Path
from typing import NamedTuple

from segsmith.data.index import read_csv
from segsmith.errors import DataError

BACKGROUND = frozenset({"background", "none"})
"""Names that say 'no class', in any case of letters."""

IGNORE = "ignore"
"""The name, in any case of letters, that says 'left open'."""

Colour = tuple[int, int, int]


class ClassTable(NamedTuple):
    """Names by what the labels say; one of the two is empty. What is no class stands in neither, but in `background`
    or `ignored`."""

    by_key: dict[str, str]
    by_colour: dict[Colour, str]
    background: frozenset[str | Colour]
    ignored: frozenset[str | Colour]


def read_class_table(file: Path) -> ClassTable:
    """The classes of a CSV, in its order. Raises DataError naming the row that is wrong."""
    table = read_csv(file, dtype=str, keep_default_na=False).fillna("")
    table.columns = [str(name).strip().lower() for name in table.columns]
    table = table.rename(columns={"r": "red", "g": "green", "b": "blue"})
    if table.empty:
        raise DataError(f"{file}: has no rows below its header")
    columns = list(table.columns)
    if set(columns) == {"class", "name"}:
        keys: list[str | Colour] = [key.strip() for key in table["class"]]
    elif set(columns) == {"name", "red", "green", "blue"}:
        keys = [_colour(file, row, parts) for row, parts in enumerate(table[["red", "green", "blue"]].to_numpy(), 2)]
    else:
        raise DataError(f"{file}: columns {','.join(columns)}; known: class,name or name,red,green,blue")
    found: dict[str | Colour, str] = {}
    for row, (key, name) in enumerate(zip(keys, table["name"].str.strip(), strict=True), start=2):
        if not key or not name:
            raise DataError(f"{file}, row {row}: a field is empty")
        if key in found:
            raise DataError(f"{file}, row {row}: {key} already stands for {found[key]}")
        found[key] = name
    ignored = frozenset(key for key, name in found.items() if name.lower() == IGNORE)
    classes = {key: name for key, name in found.items() if key not in ignored and name.lower() not in BACKGROUND}
    if not classes:
        raise DataError(f"{file}: names no class beside the background and what is ignored")
    return ClassTable(
        {key: name for key, name in classes.items() if isinstance(key, str)},
        {key: name for key, name in classes.items() if not isinstance(key, str)},
        frozenset(found) - frozenset(classes) - ignored,
        ignored,
    )


def _colour(file: Path, row: int, parts: object) -> Colour:
    red, green, blue = (str(part).strip() for part in parts)  # type: ignore[attr-defined]
    for part in (red, green, blue):
        if not (part.isdecimal() and int(part) <= 255):
            raise DataError(f"{file}, row {row}: '{part}' is no part of a colour, 0 to 255")
    return int(red), int(green), int(blue)
