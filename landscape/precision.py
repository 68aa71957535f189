"""Arithmetic in float32 that is in float32, or on purpose is not, for as long as a context lasts."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 arithmetic is in float32: no TF32 or bfloat16 in matrix products and convolutions.

    torch lets cuDNN's convolutions round to TF32 unless told otherwise, and after
    `torch.set_float32_matmul_precision("medium")`, a common line in training scripts, matrix products to bfloat16,
    on CPUs too: relative errors of 1e-3 in Hessian products.
    """
    with _switched("ieee", "ieee"):
        yield


@contextmanager
def reduced_precision() -> Iterator[None]:
    """Inside, matrix products and convolutions of float32 round to TF32 on a GPU, and on a CPU to bfloat16.

    A CPU without bfloat16 arithmetic keeps float32.
    """
    with _switched("tf32", "bf16"):
        yield


@contextmanager
def _switched(gpu: str, cpu: str) -> Iterator[None]:
    """Old and new switches are kept in agreement, because torch refuses to read them when they are not, and
    afterwards all are as they were."""
    backends: Any = torch.backends
    places = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    wanted = [gpu] * len(places)
    places += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    wanted += [cpu] * (len(places) - len(wanted))
    before = [place.fp32_precision for place in places]
    if before == wanted:
        yield
        return
    convolutions, products = _read(lambda: backends.cudnn.allow_tf32), _read(torch.get_float32_matmul_precision)

    def switch(convolutions: bool | None, products: str | None, precisions: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TF32")  # some releases advise against the old switches
            if convolutions is not None:
                backends.cudnn.allow_tf32 = convolutions
            if products is not None:
                torch.set_float32_matmul_precision(products)
        for place, precision in zip(places, precisions, strict=True):
            place.fp32_precision = precision

    exact = gpu == "ieee"
    switch(None if convolutions is None else not exact, products and ("highest" if exact else "medium"), wanted)
    try:
        yield
    finally:
        switch(convolutions, products, before)


def _read(setting: Callable[[], Any]) -> Any:
    """None where old and new switches have been set to contradict each other: torch refuses then."""
    try:
        return setting()
    except RuntimeError:
        return None
