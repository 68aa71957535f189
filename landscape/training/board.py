"""TensorBoard event files of a run, as an option."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape.errors import InputError
from landscape.training.outcome import Row


@contextmanager
def event_writer(folder: Path, done: int) -> Iterator[Callable[[Row], None]]:
    """Inside, the callable writes one epoch's row as scalars.

    Each file begins with TensorBoard's mark that discards what an earlier, killed process wrote of the
    epochs after the first `done`. So a row may be written before its epoch is committed.

    Raises `InputError` when TensorBoard is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports are deprecated here and there
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                'tensorboard is not installed. Run pip install "landscape-sharpness[track]", or leave the option out.'
            ) from None
        writer = SummaryWriter(str(folder), purge_step=done + 1)

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    try:
        yield write
    finally:
        writer.close()
