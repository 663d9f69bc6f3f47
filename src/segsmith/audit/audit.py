"""Dataset -> findings, worst first: what is broken, off-topic or suspicious, and how unusual it is among the others.

Every measure of an image is compared with the same measure of all others. How far out it lies is told in decades: at 3
decades lies what one image in a thousand would show if the tail of this dataset's images went on as it begins. Decades
of different measures can be compared, so one list holds all findings. Of several findings that say one thing of one
image in other words (an image of one colour is also a tiny file) the worst is kept.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log, log10
from os import walk
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from segsmith.audit.agreement import Agreement, agreements
from segsmith.audit.audit_images import ImageMeasures, measure_image, small_grey
from segsmith.audit.audit_masks import SLIP_PX, TURNS, MaskMeasures, measure_mask, outline_contrast
from segsmith.audit.audit_scenes import patchwork, shifted_labels
from segsmith.audit.foreground_odds import Thumbnail, thumbnail
from segsmith.data.dataset import Dataset
from segsmith.data.findings import Finding, worst_first
from segsmith.data.images import is_image, mask_levels
from segsmith.data.index import in_threads
from segsmith.data.ingest_rle import MASK_FOLDERS
from segsmith.progress import track
from segsmith.types import ClassMask

TOO_LARGE_PX = 2**26
"""Images of more pixels are not read whole: of rasters a patchwork is looked at, others are not audited."""
SHIFTED_PX = 3
"""Labels that lie so far off, down or right, are a finding; less may be the measure's own error."""
MOST_DECADES = 6
"""A severity of 1."""
WRONG = 0.8
"""The least severity of what is wrong whatever the other images look like."""
NOTHING_LOST = 0.5
"""The most severity of an image that shows nothing and is labelled as nothing."""
RARE = 0.02
"""A form, size or value is a finding where at most this share has it."""
FIRST = 2.5
"""Decades from which on a measure is a finding; more in datasets of many images, so that chance fills no list."""

SHIFT_SEVERITY = 0.9
"""Every label of the image is wrong."""
FIRST_MASK = 2.0
"""Decades from which on a mask may be another image's, or transposed: fewer, and one added, since such a mask is wrong
throughout."""
TORN = 4.0
"""How many log odds it counts against a mask that all its sides break off at its neighbours."""

SHOWS_NOTHING = frozenset({"uniform", "noise", "blank", "mask-on-blank"})
"""Kinds of images that bear out no mask at all."""
MAY_BE_RIGHT = frozenset({"tiny-file", "odd-brightness"})
"""Kinds that are a hint alone; their decades count a third."""


class Neighbours(NamedTuple):
    """Two images, by number, that touch in the mosaic they were cut from."""

    first: int
    second: int
    side: Literal["right", "below"]
    """Where the second lies, seen from the first."""


Breaks = Float[np.ndarray, " turns_and_one"]
"""Shares of one side of a mask that are labelled otherwise in its neighbour: as the mask is, then as each of TURNS
makes it."""


@dataclass(frozen=True)
class _Look:
    image: ImageMeasures
    mask: MaskMeasures | None
    """None for an image without foreground."""
    outline: float
    """How much steeper the image is on the mask's outline than elsewhere."""
    turned: tuple[float, ...]
    """The same of each mask that TURNS makes of it."""
    thumbnail: Thumbnail | None
    """None for an image that was not read whole."""


def audit(
    dataset: Dataset,
    *,
    neighbours: Sequence[Neighbours] = (),
    disagreeing: Sequence[tuple[int, int]] = (),
) -> list[Finding]:
    """What is wrong with the images and masks of a dataset, worst first; none for one indexed without its images.

    `neighbours` are images of one mosaic, `disagreeing` pairs of images that show the same but are labelled otherwise.
    Each image is decoded once, and one window of those with polygons again;
    memory is some three kilobytes per image, and that of the images being read. Raises DataError when a file has gone
    or broken since it was indexed.
    """
    if not len(dataset) or not dataset.images["bands"].any():
        return []
    sizes = dataset.images["height"].to_numpy().astype(np.int64) * dataset.images["width"].to_numpy()
    too_large = sizes > TOO_LARGE_PX
    unread = too_large & dataset.images["transform"].isna().to_numpy()
    numbers = np.flatnonzero(~unread).tolist()

    def look(number: int) -> _Look:
        if too_large[number]:
            return _Look(measure_image(patchwork(dataset, number)), None, 0.0, (), None)
        image, mask = dataset.image(number), np.asarray(dataset.mask(number).any(axis=0))
        grey = small_grey(image)
        filled = bool(mask.any())
        return _Look(
            measure_image(image),
            measure_mask(mask) if filled else None,
            outline_contrast(grey, mask) if filled else 0.0,
            tuple(outline_contrast(grey, turn(mask)) for turn in TURNS.values()) if filled else (),
            thumbnail(image, mask),
        )

    looks = dict(zip(numbers, track(in_threads(look, numbers), "audit", len(numbers)), strict=True))
    thumbnails = {
        number: small for number in dataset.labelled.tolist() if number in looks and (small := looks[number].thumbnail)
    }
    fits = dict(agreements(thumbnails))
    breaks = _breaks(dataset, neighbours)
    off_topic = _worst_each(_off_topic(dataset, looks))
    empty_of_sense = {found.image_id for found in off_topic if found.kind in SHOWS_NOTHING}
    found = [
        *off_topic,
        *_worst_each(_odd_masks(dataset, looks, fits, breaks, empty_of_sense)),
        *_minorities(dataset),
        *_mask_files(dataset),
        *_along_rows(dataset, looks),
        *_neighbours(dataset, breaks),
        *_shifted(dataset),
        *_disagreeing(dataset, disagreeing, fits),
        *(
            _finding(
                dataset, "not-audited", 0.0, number, f"has {int(sizes[number]):,} pixels, more than {TOO_LARGE_PX:,}"
            )
            for number in np.flatnonzero(unread).tolist()
        ),
    ]
    return worst_first(found)


def _off_topic(dataset: Dataset, looks: dict[int, _Look]) -> Iterator[Finding]:
    """Images that show nothing, noise, or something of quite another brightness or detail than the others."""
    if not looks:  # all are too large
        return
    numbers = np.array(list(looks))
    table = pd.DataFrame([found.image for found in looks.values()])
    pixels = (dataset.images["height"].astype(np.int64) * dataset.images["width"]).to_numpy()[numbers]
    detail = dataset.images["file_bytes"].to_numpy()[numbers] / pixels
    foreground = dataset.images["foreground"].to_numpy()[numbers]
    # What shows nothing must not set the scale for what shows something.
    shows = ((table["blank"] < 0.5) & (table["contrast"] > 0)).to_numpy()
    measures = {
        "uniform": decades(-np.log(table["structure"].to_numpy() + 0.5), shows, 0.3),
        "noise": decades(table["roughness"].to_numpy(), shows, 0.05),
        "tiny-file": decades(-np.log(detail), shows, 0.2),
        "odd-brightness": np.maximum(
            decades(table["brightness"].to_numpy(), shows, 10.0), decades(-table["brightness"].to_numpy(), shows, 10.0)
        ),
    }
    enough = least_decades(len(numbers))
    blank_share = float((~shows).mean())
    for place, number in enumerate(numbers.tolist()):
        row = table.iloc[place]
        if not shows[place]:
            share = (
                f"{row['blank']:.0%} of its pixels are black or white"
                if row["blank"] >= 0.5
                else f"all but some single pixels have one grey level, {row['brightness']:.0f}"
            )
            if row["contrast"] == 0 and foreground[place]:
                reason = f"{share}, yet {foreground[place]:,} pixels are labelled"
                yield _finding(dataset, "mask-on-blank", 1.0, number, reason)
            yield _finding(dataset, "blank", _severity(-log10(blank_share)), number, share)
            continue
        said = {
            "uniform": f"has a contrast of {row['structure']:.1f} grey levels when smoothed, half of the images more "
            f"than {table['structure'].median():.0f}",
            "noise": f"neighbouring pixels correlate by {1 - row['roughness']:.2f}, in half of the images by more than "
            f"{1 - table['roughness'].median():.2f}",
            "tiny-file": f"is stored in {detail[place]:.3f} bytes a pixel, half of the images in more than "
            f"{np.median(detail):.3f}",
            "odd-brightness": f"has a mean grey level of {row['brightness']:.0f}, half of the images lie "
            f"{'below' if row['brightness'] > table['brightness'].median() else 'above'} "
            f"{table['brightness'].median():.0f}",
        }
        for kind, out in measures.items():
            if out[place] >= enough:
                severity = _severity(float(out[place]) / (3 if kind in MAY_BE_RIGHT else 1))
                if kind in ("noise", "tiny-file") and measures["uniform"][place] >= enough:
                    continue  # what little there is in a uniform image is always noise, and small
                if kind in ("uniform", "noise") and foreground[place] and out[place] >= 4:
                    said[kind] += f", yet {foreground[place]:,} pixels are labelled"
                    severity = max(WRONG, severity)
                elif kind == "uniform":  # a mask that says nothing of an image that shows nothing is not wrong
                    severity = min(NOTHING_LOST, severity)
                yield _finding(dataset, kind, severity, number, said[kind])


def _odd_masks(
    dataset: Dataset,
    looks: dict[int, _Look],
    fits: dict[int, Agreement],
    breaks: dict[int, list[Breaks]],
    shows_nothing: Collection[str],
) -> Iterator[Finding]:
    """Masks of a rare form, and masks that their image does not bear out; each is more suspicious for being both.

    Of images that `shows_nothing` names, only the form of the mask is told.
    """
    masks = {number: found.mask for number, found in looks.items() if found.mask}
    if not masks:
        return
    numbers = np.array(list(masks))
    everything = np.ones(len(numbers), bool)
    outlines = np.array([(looks[n].outline, *looks[n].turned) for n in masks])
    belongs = np.array(
        [(fits[n].belongs, *fits[n].turned) if n in fits else (np.nan,) * (1 + len(TURNS)) for n in masks]
    )
    judged = np.isfinite(belongs[:, 0])
    # Of few images nothing is learnt, and steepness under the outline stands for log odds.
    held = np.where(judged[:, None], belongs, np.nanmedian(belongs[:, 0])) if judged.any() else np.clip(outlines, -1, 1)
    torn = np.array([np.mean(breaks[n], axis=0) if n in breaks else np.zeros(1 + len(TURNS)) for n in masks])
    fit = held - TORN * torn
    gains = fit[:, 1:] - fit[:, :1]
    shows = np.array([_name(dataset, number) not in shows_nothing for number in masks])
    if judged.any():
        # Log odds of a judge who may be wrong have no tail to go on: only how many masks fit worse is told.
        doubt = _shared(-fit[:, 0], shows)
        doubtful = shows & (doubt >= FIRST_MASK) & (fit[:, 0] < 0)
        added = 1.0
        # One mask as it is and turned is another matter: the ratio of its odds is what is asked, and however good the
        # other masks are, no list is filled. What belongs no way is wrong in another way, and a judge who may be wrong
        # is not believed where the image's slopes say the opposite.
        better = (fit[:, 1:] > 0) & (outlines[:, 1:] > outlines[:, :1])
        turned = np.where(better, gains / log(10), 0.0)
        enough = least_decades(len(numbers))
    else:
        doubt = decades(-fit[:, 0], everything, 0.5)
        doubtful = shows & (doubt >= least_decades(len(numbers)))
        added = 0.0
        turned = 1 + np.stack([decades(gain, everything, 0.5) for gain in gains.T], axis=1)
        enough = FIRST_MASK + 1
    turned[:, 1:] -= 1  # run lengths are read along the wrong axis more often than masks are flipped
    better_turned = shows[:, None] & (turned >= enough)
    straight = np.array([mask.straight for mask in masks.values()])
    forms = Counter(mask.form for mask in masks.values())
    sizes = np.array([mask.pixels for mask in masks.values()])
    same_form = {form: np.array([mask.form == form for mask in masks.values()]) for form in forms}
    for place, (number, mask) in enumerate(masks.items()):
        # How well the image bears a mask out counts for it as against it; of a speck nothing can be said.
        speck = mask.form.startswith("speck")
        unborne = 0.0 if speck else max(-1.0, float(doubt[place]) - 0.7)
        if mask.form != "drawn":
            alike = int((same_form[mask.form] & (sizes <= mask.pixels)).sum()) if speck else forms[mask.form]
            rare = -log10(alike / len(masks))
            if alike <= max(1, RARE * len(masks)):
                kind = "full-columns" if mask.form.startswith("full") else mask.form.split()[0]
                reason = (
                    f"mask is {mask.form}: {mask.pixels:,} pixels, {mask.share:.1%} of the image, "
                    f"as {alike:,} of {len(masks):,} masks are"
                )
                severity = _severity(rare + unborne)
                # nobody draws these; a piece at the border may have been cut from something larger
                if mask.form == "rectangle with 4 free sides" or (
                    mask.form == "speck inside" and mask.pixels <= SLIP_PX
                ):
                    severity = max(WRONG, severity)
                yield _finding(dataset, kind, severity, number, reason)
        elif straight[place] > 0.9 and (share := float((straight >= straight[place]).mean())) <= RARE:
            reason = f"{straight[place]:.0%} of the mask's outline runs along the pixel grid"
            yield _finding(dataset, "straight-sides", _severity(-log10(share) + unborne), number, reason)
        if speck:
            continue
        best = int(turned[place].argmax())
        if better_turned[place, best]:
            reason = (
                f"mask fits better {list(TURNS)[best]}: its outline lies on slopes {outlines[place, 0]:.2f} "
                f"deviations above the mean as it is, {outlines[place, best + 1]:.2f} so"
            )
            if judged[place]:
                reason += f"; log odds that it belongs are {held[place, 0]:.1f} and {held[place, best + 1]:.1f}"
            yield _finding(dataset, "mask-transposed", _severity(float(turned[place, best])), number, reason)
        if doubtful[place]:
            reason = (
                f"the mask's outline lies on slopes {outlines[place, 0]:.2f} deviations above the image's mean, in "
                f"half of the images more than {np.median(outlines[:, 0]):.2f}"
            )
            if judged[place]:
                reason += (
                    f"; log odds that it belongs to the image are {held[place, 0]:.1f}, in half of the images more "
                    f"than {np.median(held[judged, 0]):.1f}; {fits[number].better:.0%} of other masks are likelier here"
                )
            yield _finding(dataset, "mask-disagrees", _severity(float(doubt[place]) + added), number, reason)


def _minorities(dataset: Dataset) -> Iterator[Finding]:
    """Images of a size or number of bands that few others have. A dataset of many sizes has no minority."""
    images = dataset.images
    for kind, values, unit in (
        ("bands-differ", images["bands"].astype(str), "bands"),
        ("size-differs", images["height"].astype(str) + " x " + images["width"].astype(str), "pixels"),
    ):
        counts = values.value_counts()
        common = counts.index[0]
        if counts.iloc[0] < 0.9 * len(images):
            continue
        for number in np.flatnonzero((values != common).to_numpy()).tolist():
            own = values.iloc[number]
            severity = max(WRONG, _severity(-log10(counts[own] / len(images))))
            reason = f"has {own} {unit}, {counts.iloc[0]:,} of {len(images):,} images have {common}"
            yield _finding(dataset, kind, severity, number, reason)


def _mask_files(dataset: Dataset) -> Iterator[Finding]:
    """Mask files, in folders named masks, whose levels are not those of the other files that hold foreground."""
    files: dict[str, Path] = {}
    for top, _, names in walk(dataset.raw):
        if Path(top).name in MASK_FOLDERS:
            files |= {Path(name).stem: Path(top, name) for name in names if is_image(Path(name))}
    wanted = [
        (number, files[Path(str(dataset.images["image_id"].iloc[number])).stem])
        for number in dataset.labelled.tolist()
        if Path(str(dataset.images["image_id"].iloc[number])).stem in files
    ]
    looked = list(in_threads(lambda item: mask_levels(item[1]), wanted))
    filled = [(number, file, found) for (number, file), found in zip(wanted, looked, strict=True) if found[1]]
    counts = Counter(found for _, _, found in filled)
    if len(counts) < 2:
        return
    common, most = counts.most_common(1)[0]
    if most < 0.9 * len(filled):
        return
    for number, file, found in filled:
        if found != common:
            severity = max(WRONG, _severity(-log10(counts[found] / len(filled))))
            reason = f"mask file {file.name} holds {_levels(found)}, {most:,} of {len(filled):,} hold {_levels(common)}"
            yield _finding(dataset, "mask-values", severity, number, reason)


def _levels(found: tuple[str, tuple[int, ...]]) -> str:
    kind, levels = found
    listed = " ".join(map(str, levels[:3])) + (" ..." if len(levels) > 3 else "")
    return f"0 and {listed} of {kind}"


def _along_rows(dataset: Dataset, looks: dict[int, _Look]) -> Iterator[Finding]:
    """One finding for the whole dataset if outlines follow the images better when all run lengths are read along the
    rows: by five standard errors of the mean difference."""
    more = np.array([found.turned[0] - found.outline for found in looks.values() if found.mask])
    if len(more) < 8:
        return
    errors = float(more.mean() / (more.std(ddof=1) / len(more) ** 0.5 + 1e-9))
    if errors > 5:
        reason = (
            f"over {len(more):,} masks outlines lie on steeper slopes when run lengths are read along the rows, "
            f"by {errors:.0f} standard errors"
        )
        yield Finding("all-transposed", 1.0, "", "", reason)


def _breaks(dataset: Dataset, pairs: Sequence[Neighbours]) -> dict[int, list[Breaks]]:
    """For each image, one entry per side that touches a labelled neighbour of the same length."""
    known = dataset.images["labelled"].to_numpy()
    found: dict[int, list[Breaks]] = {}
    for first, second, side in pairs:
        if not (known[first] and known[second]):
            continue
        one, other = (np.asarray(dataset.mask(n).any(axis=0)) for n in (first, second))
        across = side == "right"
        if one.shape[0 if across else 1] != other.shape[0 if across else 1]:
            continue
        ends, begins = _border(one, across, -1), _border(other, across, 0)
        for number, mask, place, there in ((first, one, -1, begins), (second, other, 0, ends)):
            turns = (mask, *(turn(mask) for turn in TURNS.values()))
            shares = [float((_border(turned, across, place) != there).mean()) for turned in turns]
            found.setdefault(number, []).append(np.array(shares))
    return found


def _border(mask: ClassMask, across: bool, place: int) -> Bool[np.ndarray, " side"]:
    return mask[:, place] if across else mask[place]


def _neighbours(dataset: Dataset, breaks: dict[int, list[Breaks]]) -> Iterator[Finding]:
    """Images whose mask breaks off at most of the sides where their neighbours' goes on."""
    broken = {number: [float(shares[0]) for shares in sides] for number, sides in breaks.items()}
    if not broken:
        return
    numbers = np.array(list(broken))
    # The best of its sides: where one side fits, the other neighbour may be the wrong one.
    shares = np.array([min(of) if len(of) > 1 else of[0] for of in broken.values()])
    out = decades(shares, np.ones(len(shares), bool), 0.05)
    for number, share, far in zip(numbers.tolist(), shares.tolist(), out.tolist(), strict=True):
        if far >= least_decades(len(shares)) and share > 0.2:
            reason = f"at least {share:.0%} of each side that touches a neighbour is labelled otherwise there"
            yield _finding(dataset, "neighbours-disagree", _severity(far), number, reason)


def _disagreeing(dataset: Dataset, pairs: Sequence[tuple[int, int]], fits: dict[int, Agreement]) -> Iterator[Finding]:
    """Of each pair the image whose mask fits less, or stands later where nothing was learnt: without these images no
    pair is left. Each is named once, beside the best of those it contradicts."""

    def trust(number: int) -> tuple[float, int]:
        return (fits[number].likelihood if number in fits else -np.inf, -number)

    better_of: dict[int, list[int]] = {}
    for pair in pairs:
        worse, better = sorted(pair, key=trust)
        better_of.setdefault(worse, []).append(better)
    for worse, others in better_of.items():
        better = max(others, key=trust)
        name = _name(dataset, better)
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        why = (
            f"whose mask is likelier (mean log likelihood {fits[better].likelihood:.2f}, here "
            f"{fits[worse].likelihood:.2f})"
            if worse in fits and better in fits
            else "which stands before it"
        )
        reason = f"shows what {name}{more} shows, {why}, but is labelled otherwise"
        yield replace(_finding(dataset, "duplicates-disagree", WRONG, worse, reason), other=name)


def _shifted(dataset: Dataset) -> Iterator[Finding]:
    """Images whose polygons all lie beside what they label."""
    for number in dataset.labelled.tolist():
        found = shifted_labels(dataset, number)
        if found is None or max(abs(found.shift.dy), abs(found.shift.dx)) < SHIFTED_PX:
            continue
        dy, dx, metres = found.shift.dy, found.shift.dx, found.shift.metres
        parts = [f"{abs(dy)} px {'down' if dy > 0 else 'up'}"] if dy else []
        parts += [f"{abs(dx)} px {'right' if dx > 0 else 'left'}"] if dx else []
        length = f" ({metres:.1f} m)" if metres is not None else ""
        reason = (
            f"labels lie {', '.join(parts)}{length} of what they label, which stands out by "
            f"{found.shift.significance:.0f} deviations"
        )
        yield replace(_finding(dataset, "label-shift", SHIFT_SEVERITY, number, reason), window=found.window)


def missing_classes(dataset: Dataset, folds: Int[np.ndarray, " images"]) -> list[Finding]:
    """One finding per fold and class that it lacks; `folds` are the fold of each image, or -1."""
    image_of, class_of = dataset.objects["image"].to_numpy(), dataset.objects["class"].to_numpy()
    found = []
    for fold in sorted(set(folds[folds >= 0].tolist())):
        present = set(class_of[folds[image_of] == fold].tolist())
        for class_id, name in enumerate(dataset.classes):
            if class_id not in present:
                found.append(Finding("class-missing", WRONG, "", "", f"fold {fold} holds no object of class {name}"))
    return found


def decades(
    values: Float[np.ndarray, " images"], scale_of: Bool[np.ndarray, " images"], least: float
) -> Float[np.ndarray, " images"]:
    """How far out each value lies in the upper tail, as -log10 of the share that would lie farther.

    The tail is taken to fall off exponentially, as fast as it does from the median to the 95th or from the 90th to the
    98th percentile of the images `scale_of`, whichever is slower: half a per cent of outliers hardly moves it. `least`
    is the smallest decade, in units of the value, so that differences of no meaning are none in a dataset without
    spread.
    """
    known = values[scale_of] if scale_of.any() else values
    q50, q90, q95, q98 = np.percentile(known, [50, 90, 95, 98])
    decade = max(q95 - q50, (q98 - q90) / log10(5), least)
    return np.asarray(log10(2) + (values - q50) / decade)


def _shared(values: Float[np.ndarray, " images"], among: Bool[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    """-log10 of the share of values `among` these that are at least as large."""
    known = np.sort(values[among])
    larger = len(known) - np.searchsorted(known, values, "left")
    return np.asarray(-np.log10(np.maximum(larger, 1) / max(1, len(known))))


def least_decades(count: int) -> float:
    """Decades at which a measure is worth a finding among so many images."""
    return max(FIRST, log10(max(1, count)) - 0.5)


def _severity(out: float) -> float:
    return min(1.0, max(0.0, out / MOST_DECADES))


def _worst_each(findings: Iterator[Finding]) -> list[Finding]:
    """The worst finding of each image."""
    kept: dict[str, Finding] = {}
    for found in worst_first(findings):
        kept.setdefault(found.path, found)
    return list(kept.values())


def _name(dataset: Dataset, number: int) -> str:
    return str(dataset.images["image_id"].iloc[number])


def _finding(dataset: Dataset, kind: str, severity: float, number: int, reason: str) -> Finding:
    first, last = dataset.first_object[number], dataset.first_object[number + 1]
    row = int(dataset.objects["source_row"].iloc[first]) if last > first else None
    path = str(dataset.images["path"].iloc[number])
    return Finding(kind, severity, _name(dataset, number), path, reason, row)
