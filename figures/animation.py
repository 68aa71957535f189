"""A training that moves over its plane, with its loss beside it: a GIF, or an MP4 where ffmpeg is."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.interpolate import RegularGridInterpolator

from landscape.errors import InputError, illegal
from landscape.files import write_atomically
from landscape.results import SurfaceResult

from .contours import label_lines, thin_ticks
from .coordinates import aspect_of, only_plane
from .layout import fit, legend_below, name_points, new_figure, renderer, wrap
from .plane import backdrop, taken_points
from .quantities import values_of
from .scales import limits, scale_axis
from .style import INK, VERMILLION, style
from .trajectory import HALO, LINE, MOST_MARKERS

_MOST_FRAMES = 200
_HOLD = 1500  # milliseconds
_HEAD: dict[str, Any] = {"marker": "o", "markersize": 6, "linestyle": "none", "color": VERMILLION,
                         "markeredgecolor": "white"}  # fmt: skip
_COLOURS = 96


def animate(
    result: SurfaceResult,
    path: str | os.PathLike[str],
    *,
    quantity: str = "train loss",
    fps: float = 6.0,
    dpi: int = 110,
    levels: int = 10,
    overwrite: bool = False,
) -> Path:
    """Write the film of a training on the plane that it was projected onto; returns its path.

    One frame for each checkpoint (of more than 200, evenly chosen ones): the way so far over the contours, and the
    quantity on the plane at the projected checkpoint, interpolated between the points of the grid. The last frame
    stands for 1.5 seconds. path: ends in .gif, or in .mp4 where ffmpeg is installed. fps: frames in a second.
    levels: as of the recipe plane. The same result gives the same bytes of a GIF.

    Raises `InputError`: a scan without a trajectory, another ending, no ffmpeg, a file that exists, a folder that
    cannot be written.
    """
    result, path = only_plane([result], "animate"), Path(path)
    _check(result, path, fps, dpi, overwrite)
    with style():
        film = _film(result, quantity, levels, dpi)
        content = _gif(film, fps) if path.suffix.lower() == ".gif" else _mp4(film, fps)
    write_atomically(path, content)
    return path


def _check(result: SurfaceResult, path: Path, fps: float, dpi: int, overwrite: bool) -> None:
    if not len(result.trajectory):
        raise InputError("this scan holds no training to animate. Scan along principal components: --axis component:1.")
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise illegal("output", str(path), "a file that ends in .gif or .mp4", "Choose one of the two.")
    if path.suffix.lower() == ".mp4" and not FFMpegWriter.isAvailable():
        raise InputError("an .mp4 needs the program ffmpeg, which is not installed. Install it, or write a .gif.")
    if not 0.1 <= fps <= 50:
        raise illegal("fps", fps, "from 0.1 to 50", "")
    if not 40 <= dpi <= 400:
        raise illegal("dpi", dpi, "from 40 to 400", "")
    if path.exists() and not overwrite:
        raise illegal("output", str(path), "a file that does not exist yet", "Choose another, or say overwrite.")


@dataclass(frozen=True)
class _Film:
    """A figure, the parts of it that move, what moves them to a checkpoint, and the checkpoints that are shown."""

    figure: Figure
    moving: tuple[Artist, ...]
    show: Callable[[int], None]
    steps: Sequence[int]


def _film(result: SurfaceResult, quantity: str, levels: int, dpi: int) -> _Film:
    values = on_the_plane(result, quantity)
    figure = new_figure("double", 3.0)
    figure.set_dpi(dpi)
    plane, beside = figure.subplots(1, 2)
    drawn = backdrop(plane, result, quantity, result.labels, levels)
    line = LINE if len(values) <= MOST_MARKERS else {**LINE, "marker": ""}
    (way,) = plane.plot([], [], zorder=5, path_effects=HALO, gid="way", **line)
    (head,) = plane.plot([], [], zorder=7.5, gid="head", **_HEAD)
    (curve,) = beside.plot([], [], gid="curve", **line)
    (dot,) = beside.plot([], [], zorder=7.5, gid="dot", **_HEAD)
    _frame(beside, values, drawn.words)
    title = beside.set_title(" ")
    legend_below(figure, drawn.holes, drawn.note)
    fit(figure, [[plane, beside]], aspect_of(result) or 0.8)
    figure.set_layout_engine("none")  # nothing else may move
    thin_ticks(plane, drawn.bar)
    taken = [text.get_window_extent(renderer(figure)) for text in name_points(plane, result.marks, result.labels)]
    label_lines(plane, drawn.lines, drawn.shades, taken, taken_points(result))

    def show(step: int) -> None:
        way.set_data(*result.trajectory[: step + 1].T)
        head.set_data(*result.trajectory[step : step + 1].T)
        curve.set_data(np.arange(1, step + 2), values[: step + 1])
        dot.set_data([step + 1], values[step : step + 1])
        title.set_text(wrap(result.trajectory_labels[step], 44, 1))

    return _Film(figure, (way, head, curve, dot, title), show, frames(len(values)))


def on_the_plane(result: SurfaceResult, quantity: str) -> np.ndarray:
    """(T,) the quantity at the projected checkpoints, linear between points of the grid; NaN at holes and outside."""
    grid = values_of(result, quantity)[0]
    finite = np.where(np.isfinite(grid), grid, np.nan)
    return RegularGridInterpolator((result.x, result.y), finite, bounds_error=False)(result.trajectory)


def _frame(axes: Axes, values: np.ndarray, words: str) -> None:
    """The axes of the curve, for all frames."""
    finite = values[np.isfinite(values)]
    scale = "log" if len(finite) and finite.min() > 0 and finite.max() > 5 * finite.min() else "linear"
    bottom, top, _ = limits(values, scale)
    scale_axis(axes.yaxis, bottom, top, scale)
    scale_axis(axes.xaxis, 0.5, len(values) + 0.5, "linear")
    axes.set(xlabel="checkpoint", ylabel=f"{words}, on the plane")
    axes.grid(axis="y")


def frames(count: int) -> list[int]:
    """The checkpoints that are shown: all, or as many as are, evenly chosen; the first and the last always."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int)).tolist()


def _gif(film: _Film, fps: float) -> bytes:
    """All frames in one palette, so that only what moves is stored again."""
    pictures = list(_pictures(film))
    palette = _palette(pictures[-1])
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [round(1000 / fps)] * len(pictures)
    durations[-1] += _HOLD
    buffer = BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def _pictures(film: _Film) -> Iterator[Image.Image]:
    """Every frame; what does not move is drawn once."""
    for artist in film.moving:
        artist.set_animated(True)
    canvas = FigureCanvasAgg(film.figure)
    canvas.draw()
    still = canvas.copy_from_bbox(film.figure.bbox)
    for step in film.steps:
        film.show(step)
        canvas.restore_region(still)
        for artist in film.moving:
            artist.draw(canvas.get_renderer())
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _palette(picture: Image.Image) -> Image.Image:
    """The picture's colours, and exactly those of paper, ink and what moves, however small their areas."""
    kept = [int(255 * channel + 0.5) for colour in ("white", INK, VERMILLION) for channel in to_rgb(colour)]
    colours = picture.quantize(_COLOURS).getpalette() or []
    found = Image.new("P", (1, 1))
    found.putpalette(kept + colours[: 3 * _COLOURS])
    return found


def _mp4(film: _Film, fps: float) -> bytes:
    exact = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-pix_fmt", "yuv420p"]
    writer = FFMpegWriter(fps=fps, codec="h264", extra_args=exact)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with writer.saving(film.figure, str(path), dpi=film.figure.dpi):
            for step in [*film.steps, *[film.steps[-1]] * round(_HOLD / 1000 * fps)]:
                film.show(step)
                writer.grab_frame()
        return path.read_bytes()
