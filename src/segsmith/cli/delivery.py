"""Commands of delivery: networks exported, images predicted, submissions checked, a service run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segsmith.cli.app import app
from segsmith.cli.options import BackendChoice, Cluster, RunFolder, Workers, size_of
from segsmith.cli.printed import out, say, score_table, warn
from segsmith.errors import ResolutionError, RunError, SegsmithError

if TYPE_CHECKING:
    from segsmith.delivery.raster_files import RasterPrediction

OBLONG = 1.2
"""How many times longer one side of a raster's pixels is on the ground than the other, for that to be said."""


@app.command()
def export(
    run: RunFolder,
    images: Annotated[int, typer.Option(min=1, help="Images that every export is checked on, at most.")] = 128,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the networks for this machine as well.")] = False,
) -> None:
    """Write a decided run's networks as ONNX, in float32 and int8; check and time each on its images."""
    from rich.table import Table

    from segsmith.delivery.export import export as run_export

    done = run_export(run, images=images, compiled=compiled)
    exported = done.exported
    table = Table(title=f"{exported.images:,} images, {exported.machine}")
    table.add_column("backend", no_wrap=True)  # --backend takes it as it stands
    for heading in ("ms an image", "times torch", "largest difference", "changed pixels", exported.metric):
        table.add_column(heading, justify="right")
    torch_takes = exported.figures[0].seconds_per_image
    for of in exported.figures:
        table.add_row(
            of.backend,
            f"{1000 * of.seconds_per_image:.1f}",
            f"{torch_takes / of.seconds_per_image:.2f}",
            f"{of.largest_difference} of 255",
            f"{of.changed_pixels:.3%}",
            f"{of.score:.4f} ({of.score_change:+.4f})",
        )
    out.print(table)
    for of in exported.figures:
        if not of.passes:
            out.print(f"{of.backend} {of.told}; predict does not use it")
    for reason in done.unchecked:
        out.print(reason)
    out.print(f"exports: {done.folder}; next: segsmith predict {run} IMAGES --backend auto")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="Bundle file, or run folder.", show_default=False)],
    images: Annotated[
        str,  # a path would lose a slash of /vsicurl/https://...
        typer.Argument(
            metavar="RASTER|FOLDER",
            help="Folder of images or of GeoTIFFs, or one raster: a file, or /vsi... as GDAL names what is remote.",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder to write; whole or not at all.")] = Path("prediction"),
    scale: Annotated[
        float | None,
        typer.Option(min=0.001, help="Rasters: enlargement, in place of what their metres a pixel ask for."),
    ] = None,
    sample_submission: Annotated[
        Path | None, typer.Option(help="CSV that fixes which images are predicted, and the order of rows.")
    ] = None,
    numbers: Annotated[Path | None, typer.Option(help="CSV of ids and the numbers named in data.extra.")] = None,
    mosaics: Annotated[
        bool, typer.Option("--mosaics", help="Images: those cut from one picture are made to agree where they meet.")
    ] = False,
    masks: Annotated[bool, typer.Option(help="Images: write mask PNGs.")] = True,
    overlays: Annotated[
        bool | None, typer.Option(help="Images: write them with their outlines, as is done unless --no-overlays.")
    ] = None,
    vectors: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT", help="Rasters: gpkg (if unset), geojson, parquet or none; may be repeated."),
    ] = None,
    square: Annotated[bool, typer.Option(help="Rasters: give polygons right angles, as buildings have.")] = False,
    backend: BackendChoice = "auto",
    skip: Annotated[
        bool,
        typer.Option(
            "--skip", help="Leave out what looks empty at first, at the loss that 'decide --skip-loss' allowed."
        ),
    ] = False,
    cluster: Cluster = None,
    workers: Workers = None,
) -> None:
    """Predict a folder of images, or rasters of any size; write what is handed in."""
    from segsmith.delivery.predict import predict as run_prediction
    from segsmith.delivery.predict_rasters import find_rasters, predict_rasters
    from segsmith.delivery.vectors import vector_formats

    if sample_submission is None and (given := find_rasters(images)).rasters:
        formats = vector_formats(vectors) if vectors else None
        of_images: dict[str, object] = {"--no-masks": not masks, "--overlays": overlays, "--mosaics": mosaics}
        _check_options(of_images, f"for plain images; {images} is predicted as rasters")
        with _naming_scale():
            rasters = predict_rasters(
                bundle, images, to, scale=scale, numbers=numbers, vectors=formats,
                square=square, backend=backend, skip=skip, cluster=cluster, workers=workers,
            )  # fmt: skip
        for raster in rasters:
            _print_raster(raster, asked_objects=formats != ())
        _print_left_alone(given.left_alone)
        out.print(f"backend {rasters[0].backend}: {rasters[0].why}")
        has_objects = any(raster.objects is not None for raster in rasters)
        written = "probabilities, masks and objects" if has_objects else "probabilities and masks"
        out.print(f"{written}: {to}")
        _say_if_undecided(bundle)
        return
    if Path(images).is_dir():
        of_rasters: dict[str, object] = {"--scale": scale, "--vectors": vectors, "--square": square}
        of_rasters |= {"--cluster": cluster, "--workers": workers}
        _check_options(of_rasters, f"for rasters; {images} is predicted as a folder of plain images")
    with _naming_scale():
        done = run_prediction(
            bundle,
            Path(images),
            to,
            sample_submission=sample_submission,
            numbers=numbers,
            mosaics=mosaics,
            masks=masks,
            overlays=overlays is not False,
            backend=backend,
            skip=skip,
        )
    if skip:
        out.print(f"{done.skipped:,} of {done.skipped + done.chips:,} skipped, since a first look found nothing")
    out.print(f"backend {done.backend}: {done.why}")
    out.print(f"{done.images:,} images, {done.with_foreground:,} with foreground, {done.rows:,} rows")
    out.print(f"read back and checked: {done.folder / 'submission.csv'}")
    _say_if_undecided(bundle)


@app.command()
def check(
    submission: Annotated[Path, typer.Argument(help="CSV of run lengths, whoever wrote it.", show_default=False)],
    sample_submission: Annotated[Path | None, typer.Option(help="CSV that says which images are asked for.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="CSV with the labels in the same columns, or a dataset folder; scores it.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to know their sizes.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Of all images, in place of that.")] = None,
) -> None:
    """Check a submission as a contest would; score it where the truth is known."""
    from segsmith.delivery.check import check as run_check
    from segsmith.errors import listed

    found = run_check(
        submission, sample=sample_submission, truth=truth, images=images, hw=size_of("--size", size) if size else None
    )
    out.print(
        f"{found.layout}: {found.rows:,} rows, {found.images:,} images, {found.with_foreground:,} with foreground"
    )
    for note in found.notes:
        out.print(f"  {note}")
    if found.problems:
        count = len(found.problems)
        raise SegsmithError(f"{submission}: {count:,} problem{'s' * (count > 1)}:\n{listed(found.problems)}")
    out.print("nothing wrong")
    if found.scores:
        out.print(score_table(f"scores of {submission.name}", found.scores))


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="Bundle file, or run folder.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="SEGSMITH_TOKEN", help="Asked for in every request; others see what stands on a line."),
    ] = None,
    upload_mb: Annotated[float, typer.Option(min=0.001, help="MiB of one upload.")] = 32,
    pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 2**24,
    requests: Annotated[int, typer.Option(min=1, help="Taken on at once; to further ones it is busy (429).")] = 128,
    memory_mb: Annotated[float, typer.Option(min=1, help="MiB that all of them may need, about.")] = 1024,
    seconds: Annotated[float, typer.Option(min=0.1, help="From the beginning of a request to its answer.")] = 60,
    gather_ms: Annotated[float, typer.Option(min=0, help="An image waits at most for others, to go together.")] = 5,
    backend: BackendChoice = "auto",
) -> None:
    """Answer images and GeoTIFFs over HTTP with their masks."""
    from segsmith.service.limits import Limits
    from segsmith.service.serve import serve as run_service

    limits = Limits(upload_mb, pixels, requests, memory_mb, seconds, gather_ms)
    run_service(bundle, host=host, port=port, token=token, backend=backend, limits=limits, say=say)


@contextmanager
def _naming_scale() -> Iterator[None]:
    """A refusal for want of a resolution ends with the option that says what to enlarge by."""
    try:
        yield
    except ResolutionError as error:
        raise ResolutionError(f"{error}: --scale FACTOR") from error


def _say_if_undecided(bundle: Path) -> None:
    from segsmith.modeling.bundle import Bundle, bundle_file

    if Bundle.read(bundle_file(bundle)).decision.metric is None:
        warn(
            f"{bundle}: no decision was tuned, so masks are what is at least half probable; first: segsmith decide RUN"
        )


def _check_options(given: dict[str, object], why: str) -> None:
    """Raise RunError where an option is given that would not be heard."""
    if deaf := [name for name, value in given.items() if value]:
        raise RunError(f"{', '.join(deaf)}: {why}")


def _print_left_alone(images: list[Path]) -> None:
    if images:
        be = "1 image was" if len(images) == 1 else f"{len(images):,} images were"
        names = ", ".join([*map(str, images[:3]), *(["..."] if len(images) > 3 else [])])
        out.print(f"{be} left alone, without a CRS that says where they lie: {names}")


def _print_raster(done: "RasterPrediction", *, asked_objects: bool) -> None:
    from segsmith.delivery.polygons import LONGEST_PX

    height, width = done.hw
    out.print(f"{done.raster}: {height:,} x {width:,} pixels, enlarged {done.scale:.3g} times", style="bold")
    if done.sides_m and max(done.sides_m) > OBLONG * min(done.sides_m):
        wide, high = done.sides_m
        out.print(
            f"  a pixel is {wide:.3g} m wide and {high:.3g} m high on the ground, and networks see it square; "
            "better warp the raster to a metric CRS (gdalwarp)"
        )
    seam = "" if done.seam is None else f", {done.seam:.2f} times as steep on their edges as elsewhere"
    skipped = f", {done.skipped:,} skipped, since a first look found nothing" if done.skipped else ""
    out.print(f"  {done.chips:,} chips, {done.blank:,} without a usable pixel left out{skipped}{seam}")
    if asked_objects and done.objects is None:
        out.print(f"  no objects: {Path(done.raster).name} has no CRS")
    for name, pixels in done.foreground_pixels.items():
        count = "" if done.objects is None else f", {done.objects.get(name, 0):,} objects"
        out.print(f"  {name}: {pixels / max(1, done.usable_pixels):.2%} of {done.usable_pixels:,} usable pixels{count}")
        if whole := done.left_whole.get(name):
            what = "connected object" if whole == 1 else "connected objects"
            be = "is" if whole == 1 else "are"
            out.print(f"  {name}: {whole:,} {what} longer or wider than {LONGEST_PX:,} pixels {be} not taken apart")
