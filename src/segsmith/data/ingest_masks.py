"""Images + mask files -> Dataset: what belongs together is found by names, what the masks' levels mean by looking.

folders    images/ + masks/, JPEGImages/ + SegmentationClass/ and the like; masks may carry a suffix, as x_mask.png
beside     x.jpg + x_mask.png in one folder
one pair   rgb.png + gt.png: one image, one truth

binary     two levels: 0 and any other, or black and white
index      levels 0 to n: background and classes 1 to n; 255, or what the table of classes names ignore, is left open
colours    a table of classes says what they mean
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from os import walk
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from segsmith.data import rle
from segsmith.data.class_table import ClassTable, Colour, read_class_table
from segsmith.data.cleaning import Cleaning
from segsmith.data.dataset import Dataset, Layout
from segsmith.data.images import ImageFacts, is_image, read_levels
from segsmith.data.index import LabelledImage, LabelledObject, in_threads, index, look_at_all
from segsmith.errors import DataError, listed
from segsmith.progress import track
from segsmith.types import ClassMask, Runs

IMAGE_WORDS = ("images", "image", "imgs", "img", "jpegimages", "rgb", "photos", "inputs", "input")
MASK_WORDS = ("masks", "mask", "labels", "label", "gt", "truth", "ground_truth", "segmentationclass", "annotations")
LOOKED_FOR = (
    "mask images: folders such as images/ + masks/, files such as x.jpg + x_mask.png, or one pair such as "
    "rgb.png + gt.png"
)
Foreground = Literal["black", "white"]
IGNORED = 255
"""The level of index masks that marks pixels whose truth is left open, unless a table of classes says otherwise."""
MOST_CLASSES = 100
"""An index mask with higher levels is taken for something else."""
MOST_BETWEEN = 0.05
"""Largest share of pixels between black and white for which the blur of JPEG is to blame."""

Levels = Shaped[np.ndarray, "height width bands"]


class Pairs(NamedTuple):
    """Images with their masks, or None for those without, and masks without an image; paths are absolute."""

    form: str
    why: str
    masks: dict[Path, Path | None]
    lonely: list[Path]


class Seen(NamedTuple):
    """Levels of one mask and their pixels, or what is wrong with its file."""

    counts: dict[int | Colour, int]
    lossy: bool
    problem: str | None = None


class Meaning(NamedTuple):
    """What the levels of all masks mean: for each class the levels that are it, [lowest, highest], or its colour."""

    names: tuple[str, ...]
    keys: tuple[str, ...]
    classes: tuple[tuple[int, int] | Colour, ...]
    in_colour: bool
    notes: tuple[str, ...]
    ignored: tuple[tuple[int, int] | Colour, ...] = ()
    """Levels or colours of pixels whose truth is left open."""


def recognise(raw: Path) -> str | None:
    """What of this layout lies in a raw folder, in words; None if nothing does."""
    found = find_pairs(raw)
    return found.why if found else None


def ingest(
    raw: Path,
    *,
    classes: Path | None = None,
    foreground: Foreground | None = None,
    cleaning: Cleaning | None = None,
) -> Dataset:
    """The dataset of a raw folder; masks become run lengths, the files stay untouched and are not needed again.

    `classes` is a table of classes (by default classes.csv or class_dict.csv in the folder, if there), which colour
    masks want. `foreground` says which of two levels is the class; otherwise any level beside 0, and in a single pair
    the rarer level. Memory is that of a few masks and of the run lengths. Raises DataError naming masks without an
    image, of another size than it, broken ones, levels and colours that mean nothing.
    """
    raw, cleaning = raw.resolve(), cleaning or Cleaning()
    pairs = find_pairs(raw)
    if pairs is None:
        raise DataError(f"{raw}: found no {LOOKED_FOR}")
    if pairs.lonely:
        names = [str(path.relative_to(raw)) for path in pairs.lonely]
        raise DataError(
            f"{raw}: {len(names)} masks have no image:\n{listed(names)}\nadd the images or remove the masks"
        )
    ids = Counter(path.stem for path in pairs.masks)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise DataError(f"{raw}: several images with the same id:\n{listed(twice)}\nids must be unique; rename them")
    ordered = sorted(pairs.masks, key=lambda path: (pairs.masks[path] is None, str(path)))
    found = [
        LabelledImage(path.stem, str(path.relative_to(raw)), labelled=pairs.masks[path] is not None) for path in ordered
    ]
    cleaned = cleaning.apply(raw, found)
    images = cleaned.images
    files = [mask for image in images if (mask := pairs.masks[raw / image.path])]
    table = _class_table(raw, classes)
    meaning = _meaning(raw, files, table, foreground, rarer=pairs.form == "pair")
    facts = look_at_all(raw, images)
    objects, ignored = _read_masks(files, facts, meaning)
    notes = [*meaning.notes, *cleaned.notes]
    if len(files) < len(images):
        notes.append(f"unlabelled: {len(images) - len(files)} images without a mask")
    several = len(meaning.names) > 1
    layout = (
        Layout("masks", "ImageId", "EncodedPixels", "image", False, class_column="ClassId", class_keys=meaning.keys)
        if several
        else Layout("masks", "id", "rle_mask", one_row_per="image", id_has_suffix=False)
    )
    return index(raw, layout, meaning.names, images, facts, objects, notes, ignored)


def find_pairs(raw: Path) -> Pairs | None:
    """Images and masks by their names; None where no image has a mask."""
    folders: dict[Path, list[Path]] = {}
    for top, names, files in walk(raw):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if found := [Path(top, name) for name in sorted(files) if is_image(Path(name))]:
            folders[Path(top)] = found
    return _in_folders(raw, folders) or _one_pair(raw, folders) or _beside(raw, folders)


def _in_folders(raw: Path, folders: dict[Path, list[Path]]) -> Pairs | None:
    twins = {folder: twin for folder in folders if (twin := _mask_folder(raw, folder, folders))}
    if not twins:
        return None
    masks: dict[Path, Path | None] = {}
    lonely: set[Path] = set()
    for folder, files in folders.items():
        if folder in twins.values():
            continue
        truths = folders[twins[folder]] if folder in twins else []
        of_stem = {_without_word(mask.stem): mask for mask in truths} | {mask.stem: mask for mask in truths}
        masks |= {path: of_stem.get(path.stem) for path in files}
        lonely |= set(truths) - {masks[path] for path in files}
    where = ", ".join(
        f"{folder.relative_to(raw)} with masks in {twin.relative_to(raw)}" for folder, twin in twins.items()
    )
    return Pairs("folders", f"images in {where}", masks, sorted(lonely))


def _mask_folder(raw: Path, folder: Path, folders: dict[Path, list[Path]]) -> Path | None:
    """The folder of masks for a folder of images: the same path with a word for masks where it has one for images."""
    parts = folder.relative_to(raw).parts
    for place, part in enumerate(parts):
        if part.lower() not in IMAGE_WORDS:
            continue
        above = raw.joinpath(*parts[:place])
        for word in MASK_WORDS:
            for sibling in sorted(above.iterdir()):
                twin = sibling.joinpath(*parts[place + 1 :])
                if sibling.name.lower() == word and twin in folders:
                    return twin
    return None


def _one_pair(raw: Path, folders: dict[Path, list[Path]]) -> Pairs | None:
    files = [path for found in folders.values() for path in found]
    images = [path for path in files if path.stem.lower() in IMAGE_WORDS]
    truths = [path for path in files if path.stem.lower() in MASK_WORDS]
    if len(files) != 2 or len(images) != 1 or len(truths) != 1:
        return None
    return Pairs("pair", f"one image {images[0].name} with its truth {truths[0].name}", {images[0]: truths[0]}, [])


def _beside(raw: Path, folders: dict[Path, list[Path]]) -> Pairs | None:
    masks: dict[Path, Path | None] = {}
    lonely: list[Path] = []
    for files in folders.values():
        truths = {_without_word(path.stem): path for path in files if _without_word(path.stem) != path.stem}
        pictures = {path.stem: path for path in files if path not in truths.values()}
        masks |= {path: truths.get(stem) for stem, path in pictures.items()}
        lonely += [path for stem, path in truths.items() if stem not in pictures]
    pairs = [(path, mask) for path, mask in masks.items() if mask]
    if not pairs:
        return None
    example = " + ".join(path.name for path in pairs[0])
    return Pairs("beside", f"{len(pairs)} images with a mask beside them, such as {example}", masks, lonely)


def _without_word(stem: str) -> str:
    """`x_mask` -> `x`; a name without such an end stays."""
    for sign in "_-":
        front, _, word = stem.rpartition(sign)
        if front and word.lower() in MASK_WORDS:
            return front
    return stem


def _class_table(raw: Path, classes: Path | None) -> ClassTable | None:
    here = [raw / name for name in ("classes.csv", "class_dict.csv") if (raw / name).is_file()]
    file = classes or (here[0] if here else None)
    return read_class_table(file) if file else None


def _meaning(
    raw: Path, files: Sequence[Path], table: ClassTable | None, foreground: Foreground | None, *, rarer: bool
) -> Meaning:
    """What the levels of the masks mean, from the levels of all of them. Raises DataError where that is not clear."""
    in_colour = bool(table and table.by_colour)
    seen = list(track(in_threads(lambda file: _look(file, in_colour), files), "masks", len(files)))
    if problems := [found.problem for found in seen if found.problem]:
        raise DataError(f"{len(problems)} of {len(files)} masks cannot be used:\n{listed(problems)}\nrepair them")
    total: Counter[int | Colour] = Counter()
    for found in seen:
        total.update(found.counts)
    if table and table.by_colour:
        return _of_colours(raw, total, table)
    if any(not isinstance(level, int) for level in total):
        raise DataError(
            f"{raw}: the masks have colours; say what they mean with --classes FILE, a CSV with the columns "
            f"name,red,green,blue. Most common:\n{listed(_shares(total))}"
        )
    levels = Counter({int(level): count for level, count in total.items() if isinstance(level, int)})
    lossy = any(found.lossy for found in seen)
    mixed = max((len(found.counts) for found in seen), default=0) <= 2 and set(levels) <= {0, 1, 255}
    if table is None and (lossy or mixed or len(levels) <= 2):
        return _of_two_levels(raw, levels, foreground, lossy=lossy, rarer=rarer)
    return _of_numbers(raw, levels, table)


def _of_two_levels(
    raw: Path, levels: Counter[int], foreground: Foreground | None, *, lossy: bool, rarer: bool
) -> Meaning:
    pixels, notes = sum(levels.values()), []
    lowest, highest = min(levels), max(levels)
    if lossy:
        middle = (lowest + highest + 1) // 2
        width = (highest - lowest) / 8
        between = sum(n for level, n in levels.items() if lowest + width < level < highest - width) / pixels
        if between > MOST_BETWEEN:
            raise DataError(
                f"{raw}: masks as JPEG whose levels are neither black nor white ({between:.1%} of pixels between); "
                "only binary masks survive JPEG: save them as PNG"
            )
        if between:
            notes.append(f"masks are JPEG and blurred: {between:.2%} of pixels lie between black and white")
    else:
        middle = 1 if lowest == 0 else highest
    bright = sum(count for level, count in levels.items() if level >= middle)
    if foreground:
        white = foreground == "white"
        notes.append(f"foreground is {foreground}, as said")
    elif (rarer or lowest > 0) and lowest != highest:
        white = 2 * bright <= pixels
        notes.append(
            f"foreground is taken to be {'white' if white else 'black'}, the rarer of two levels "
            f"({(bright if white else pixels - bright) / pixels:.1%} of pixels); --foreground says otherwise"
        )
    else:
        white = True
        if 2 * bright > pixels:
            notes.append(f"{bright / pixels:.1%} of pixels are foreground; if black is meant: --foreground black")
    if len(levels) > 2 and not lossy:
        notes.append(f"masks differ in their levels ({', '.join(map(str, sorted(levels)))}); all but 0 is foreground")
    band = (middle, 2**31 - 1) if white else (0, middle - 1)
    return Meaning(("object",), ("1",), (band,), False, tuple(notes))


def _of_numbers(raw: Path, levels: Counter[int], table: ClassTable | None) -> Meaning:
    notes = []
    ignored = {int(key) for key in (table.ignored if table else ()) if isinstance(key, str) and key.isdecimal()}
    if not (table and (str(IGNORED) in table.by_key or str(IGNORED) in table.background)):
        ignored.add(IGNORED)
    notes += _ignored_note(Counter({f"level {level}": levels[level] for level in sorted(ignored)}), levels.total())
    levels = Counter({level: count for level, count in levels.items() if level not in ignored})
    if table:
        known = {int(key): name for key, name in table.by_key.items() if key.isdecimal()}
        nothing = {int(key) for key in table.background if isinstance(key, str) and key.isdecimal()} | {0}
        known = {level: name for level, name in known.items() if level not in nothing}
        unknown = sorted(set(levels) - set(known) - nothing)
        if unknown or not known:
            raise DataError(f"{raw}: the table of classes names no level {', '.join(map(str, unknown))} of the masks")
    elif max(levels, default=0) > MOST_CLASSES:
        raise DataError(
            f"{raw}: the masks have {len(levels)} levels up to {max(levels)}, neither two nor numbers of classes; say "
            f"what they mean with --classes FILE, a CSV with the columns name,red,green,blue. Most common:\n"
            f"{listed(_shares(levels))}"
        )
    else:
        known = {level: str(level) for level in range(1, max([1, *levels]) + 1)}
        notes.append(f"index masks: levels 1 to {max(known)} are the classes, 0 is background; --classes names them")
        if absent := [name for level, name in known.items() if level not in levels]:
            notes.append(f"in no mask: class {', '.join(absent)}")
    bands, open_bands = (tuple((level, level) for level in some) for some in (known, sorted(ignored)))
    return Meaning(tuple(known.values()), tuple(map(str, known)), bands, False, tuple(notes), open_bands)


def _ignored_note(counts: Counter[str], pixels: int) -> list[str]:
    """What is said of levels or colours whose pixels are left open."""
    if not counts.total():
        return []
    names = " and ".join(name for name, count in counts.items() if count)
    share = counts.total() / pixels
    return [f"ignored: {counts.total():,} pixels ({share:.2%}), {names}; they count in no loss and no score"]


def _of_colours(raw: Path, total: Counter[int | Colour], table: ClassTable) -> Meaning:
    colours = {level if isinstance(level, tuple) else (level,) * 3: count for level, count in total.items()}
    ignored = tuple(colour for colour in sorted(table.ignored, key=str) if not isinstance(colour, str))
    known = {*table.by_colour, *table.background, *ignored}
    unknown = Counter({colour: count for colour, count in colours.items() if colour not in known})
    if not table.background:  # the one colour that no class has is what is left
        black = (0, 0, 0)
        if black in unknown:
            unknown.pop(black)
    if unknown:
        raise DataError(
            f"{raw}: the table of classes names no colour{'s' if len(unknown) > 1 else ''}:\n"
            f"{listed(_shares(unknown))}\nadd a row each; a row named background is no class, "
            "one named ignore is left open"
        )
    names = tuple(table.by_colour.values())
    absent = [name for colour, name in table.by_colour.items() if colour not in colours]
    notes = [f"in no mask: class {', '.join(absent)}"] if absent else []
    notes += _ignored_note(Counter({f"colour {colour}": colours.get(colour, 0) for colour in ignored}), total.total())
    keys = tuple(str(n) for n in range(1, len(names) + 1))
    return Meaning(names, keys, tuple(table.by_colour), True, tuple(notes), ignored)


def _look(file: Path, in_colour: bool) -> Seen:
    try:
        levels = _levels(file, in_colour)
    except DataError as error:
        return Seen({}, lossy=False, problem=str(error))
    if levels.dtype.kind not in "bui":
        return Seen({}, lossy=False, problem=f"{file}: {levels.dtype} levels; masks hold whole numbers")
    counts: dict[int | Colour, int]
    if levels.shape[2] == 1:
        found, pixels = np.unique(levels, return_counts=True)
        counts = {int(level): int(count) for level, count in zip(found, pixels, strict=True)}
    else:
        found, pixels = np.unique(_packed(levels), return_counts=True)
        counts = {
            (int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(count) for c, count in zip(found, pixels, strict=True)
        }
    if len(counts) > 1000:
        counts = dict(Counter(counts).most_common(1000))  # a photo among the masks must not fill the memory
    return Seen(counts, lossy=file.suffix.lower() in (".jpg", ".jpeg"))


def _levels(file: Path, in_colour: bool) -> Levels:
    """Levels with 0 and 65535 of 16 bits as 0 and 255, so that depths can be mixed; grey for a grey JPEG."""
    levels = read_levels(file, palette=in_colour)
    if levels.dtype == np.bool_:
        return levels.astype(np.uint8)
    if levels.dtype != np.uint8 and levels.size and levels.max() == 65535:
        if not np.isin(levels, (0, 65535)).all():
            return levels
        return (levels > 0).astype(np.uint8) * np.uint8(255)
    return levels


def _packed(levels: Levels) -> Shaped[np.ndarray, "height width"]:
    wide = levels.astype(np.uint32)
    return np.asarray(wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2])


def _read_masks(
    files: Sequence[Path], facts: Sequence[ImageFacts], meaning: Meaning
) -> tuple[list[LabelledObject], list[Runs]]:
    """The pixels of each class of each mask that has any, and those each mask leaves open; mask n belongs to image
    n."""

    def read(number: int) -> tuple[list[LabelledObject], Runs] | str:
        levels = _levels(files[number], meaning.in_colour)
        hw = facts[number].hw
        if levels.shape[:2] != hw:
            height, width = levels.shape[:2]
            return f"{files[number]}: is {height} x {width} pixels, its image {hw[0]} x {hw[1]}"
        objects = [
            LabelledObject(number, class_id, 0, runs)
            for class_id, mask in enumerate(_planes(levels, meaning.classes))
            if len(runs := rle.encode(mask))
        ]
        return objects, rle.encode(np.any([np.zeros(hw, bool), *_planes(levels, meaning.ignored)], axis=0))

    read_all = list(track(in_threads(read, range(len(files))), "masks", len(files)))
    if problems := [found for found in read_all if isinstance(found, str)]:
        raise DataError(
            f"{len(problems)} of {len(files)} masks do not fit their images:\n{listed(problems)}\ncorrect them"
        )
    masks = [found for found in read_all if not isinstance(found, str)]
    return [one for objects, _ in masks for one in objects], [ignored for _, ignored in masks]


def _planes(levels: Levels, wanted: Sequence[tuple[int, int] | Colour]) -> Iterator[ClassMask]:
    for one in wanted:
        if len(one) == 2:
            yield np.asarray((levels[:, :, 0] >= one[0]) & (levels[:, :, 0] <= one[1]))
        else:
            yield np.asarray((levels == np.array(one)).all(axis=2))


def _shares(total: Counter[int] | Counter[Colour] | Counter[int | Colour]) -> list[str]:
    pixels = sum(total.values())
    return [f"{level}: {count / pixels:.2%} of pixels" for level, count in total.most_common()]
