"""How often two sampling standard errors hold the λ₁ of a large sample, over many small samples of it."""

import dataclasses

import numpy as np
import pytest
import torch

from landscape import hessian
from landscape.checkpoints import prepare
from landscape.data import subset
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec, ProblemSpec, TrainSpec
from landscape.training.run import train


def coverage(
    spec: ProblemSpec, population: int | None, epochs: int, examples: int, replace: bool, trials: int
) -> float:
    """Share of `trials` random samples with |λ₁(sample) − λ₁(population)| ≤ 2·(standard error of the sample).

    The network is trained on the population, and its weights stay fixed. λ₁ of a sample is the maximum of
    Rayleigh quotients and on average above λ₁ of the population, mostly by less than one standard error.
    """
    model, dataset = prepare(spec, seed=0)
    if population is not None:
        dataset = dataclasses.replace(dataset, train=subset(dataset.train, population, seed=1))
    trained = train(model, dataset, TrainSpec(epochs=epochs, learning_rate=0.05, schedule="cosine")).model
    x, y = dataset.train.inputs, dataset.train.targets

    def leading(rows: torch.Tensor) -> tuple[float, float]:
        problem = Problem(trained, loss_by_name("cross_entropy"), [(x[rows], y[rows])], engine="recompute")
        found = hessian.measure(problem, HessianSpec(count=1, tolerance=1e-2))
        return found.eigenvalues[0], found.sampling_errors[0]

    truth, _ = leading(torch.arange(len(y)))
    inside = 0
    for trial in range(trials):
        rows = np.random.default_rng(trial).choice(len(y), examples, replace=replace)
        value, error = leading(torch.from_numpy(rows))
        inside += abs(value - truth) <= 2 * error
    return inside / trials


@pytest.mark.slow
def test_samples_of_mnist_cover_the_population(data_folder):
    """Samples of 500 out of 20,000: the finite population makes the scatter 1 % smaller, no more."""
    arguments = {"model_args": (("widths", "32"),), "data_args": (("resize", "14"),)}
    spec = ProblemSpec(model="mlp", data="mnist", data_folder=str(data_folder), **arguments)
    found = coverage(spec, 20_000, epochs=3, examples=500, replace=False, trials=200)
    assert 0.90 <= found <= 0.99


@pytest.mark.slow
def test_samples_of_the_digits_cover_the_population():
    """Drawn with replacement, so that the 1,437 digits count as a population without end."""
    spec = ProblemSpec(model="mlp", model_args=(("widths", "16"),), data="digits")
    found = coverage(spec, None, epochs=3, examples=200, replace=True, trials=80)
    assert 0.90 <= found <= 0.99
