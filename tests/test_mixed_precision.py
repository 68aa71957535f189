"""Training in bfloat16 and float16 against hand-written loops of torch's autocast and scaler; overflow; resuming."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.files import unseal
from landscape.spec import TrainSpec
from landscape.training.folder import STATE
from landscape.training.run import train
from landscape.training.step_state import StepState

VARIANTS: dict[str, dict] = {
    "sam": {},
    "asam": {"adaptive": True},
    "m-sam": {"sam_shard": 5},
    "gsam": {"sam_variant": "gsam"},
    "friendly": {"sam_variant": "friendly"},
    "every 2": {"sam_every": 2},
}


def toy_data(scale=0.1) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 40, torch.empty(4))
    y = scale * x[:, :3] ** 2
    return Dataset("toy", Split(x[:30], y[:30]), Split(x[30:], y[30:]), "regression", 3, "", {})


def network() -> nn.Module:
    with seeds.global_stream(1, "network"):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def difference(a: nn.Module, b: nn.Module) -> float:
    return max((v - w).abs().max().item() for v, w in zip(a.parameters(), b.parameters(), strict=True))


SPEC = TrainSpec(epochs=7, batch_size=10, learning_rate=0.02, momentum=0.9)


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor, precision: str) -> torch.Tensor:
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        outputs = model(x)
    return F.mse_loss(outputs.float(), y, reduction="sum") * (len(y) / y.numel()) / len(y)


def steps(spec: TrainSpec, data: Dataset):
    """(inputs, targets) of every step, with the random state that its dropout has."""
    for epoch in range(1, spec.epochs + 1):
        with seeds.global_stream(spec.seed, "dropout", epoch):
            for part in seeds.permutation(seeds.stream(spec.seed, "order", epoch), 30).split(spec.batch_size):
                yield data.train.inputs[part], data.train.targets[part]


@pytest.mark.parametrize("scale", [0.1, 3e4], ids=["all finite", "overflows at first"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_plain_float16_is_torchs_recipe_to_the_bit(scale, clip_norm):
    data, model = toy_data(scale), network().train()
    spec = TrainSpec.from_dict({**SPEC.to_dict(), "precision": "float16", "clip_norm": clip_norm,
                                "learning_rate": SPEC.learning_rate / max(scale, 1)})  # fmt: skip
    optimiser, scaler = torch.optim.SGD(model.parameters(), spec.learning_rate, 0.9), torch.amp.GradScaler("cpu")
    for x, y in steps(spec, data):
        optimiser.zero_grad()
        scaler.scale(loss_of(model, x, y, "float16")).backward()
        scaler.unscale_(optimiser)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        scaler.step(optimiser)
        scaler.update()
    assert (scaler.get_scale() < 65536) == (scale > 1)
    assert same_state(train(network(), data, spec).model, model)


def test_plain_bfloat16_is_torchs_recipe_to_the_bit():
    data, model = toy_data(), network().train()
    spec = TrainSpec.from_dict({**SPEC.to_dict(), "precision": "bfloat16"})
    optimiser = torch.optim.SGD(model.parameters(), spec.learning_rate, 0.9)
    for x, y in steps(spec, data):
        optimiser.zero_grad()
        loss_of(model, x, y, "bfloat16").backward()
        optimiser.step()
    assert same_state(train(network(), data, spec).model, model)
    assert difference(train(network(), data, SPEC).model, model) > 1e-5  # and not float32


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sam_equals_a_loop_by_hand_that_skips_overflows(precision):
    data, model, spec = toy_data(3e4), network().train(), TrainSpec.from_dict(
        {**SPEC.to_dict(), "precision": precision, "learning_rate": SPEC.learning_rate / 3e4, "rho": 0.05}
    )  # fmt: skip
    optimiser, scale, skipped = torch.optim.SGD(model.parameters(), spec.learning_rate, 0.9), 2.0**16, 0
    scale = 1.0 if precision == "bfloat16" else scale
    for x, y in steps(spec, data):
        before = torch.get_rng_state()
        p = list(model.parameters())
        g = [t / scale for t in torch.autograd.grad(loss_of(model, x, y, precision) * scale, p)]
        if not all(t.isfinite().all() for t in g):
            scale, skipped = scale / 2, skipped + 1
            continue
        norm = torch.cat([t.flatten() for t in g]).double().norm()
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for q, t in zip(twin.parameters(), g, strict=True):
                q += (spec.rho * t.double() / norm).float()
        torch.set_rng_state(before)
        h = [t / scale for t in torch.autograd.grad(loss_of(twin, x, y, precision) * scale, list(twin.parameters()))]
        if not all(t.isfinite().all() for t in h):
            scale, skipped = scale / 2, skipped + 1
            continue
        for q, t in zip(p, h, strict=True):
            q.grad = t
        optimiser.step()
    assert (skipped > 0) == (precision == "float16")
    trained = train(network(), data, spec).model
    moved = difference(network(), model)
    # The last bit of the ascended weights decides how they round to 8 or 11 bits.
    assert difference(trained, model) < (0.02 if precision == "bfloat16" else 0.005) * moved
    assert torch.equal(trained[1].num_batches_tracked, model[1].num_batches_tracked)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_that_overflows_leaves_the_weights_alone(variant):
    spec = TrainSpec(epochs=1, batch_size=10, learning_rate=0.1, rho=0.05, precision="float16", **VARIANTS[variant])
    # Enough to overflow at every scale of three halvings.
    model = train(network(), toy_data(1e7), spec).model
    assert difference(model, network()) == 0
    again = train(network(), toy_data(), spec).model
    assert difference(again, network()) > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_sam_in_float16_is_near_float32(variant):
    options = {**SPEC.to_dict(), "epochs": 1, "rho": 0.05, **VARIANTS[variant]}
    exact = train(network(), toy_data(), TrainSpec.from_dict(options)).model
    for precision, tolerance in (("float16", 0.02), ("bfloat16", 0.1)):
        found = train(network(), toy_data(), TrainSpec.from_dict({**options, "precision": precision})).model
        assert 0 < difference(found, exact) < tolerance * difference(exact, network())


class StoppedError(Exception):
    """An interruption."""


@pytest.mark.parametrize(
    "options",
    [
        {"sam_variant": "friendly"},
        {"sam_variant": "friendly", "sam_every": 2, "optimiser": "adam", "learning_rate": 0.01},
        {"precision": "float16"},
        {"precision": "float16", "rho": 0.0},
        {"precision": "float16", "sam_variant": "friendly", "micro_batch": 4},
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(options, tmp_path, monkeypatch):
    scale = 3e4 if "precision" in options else 0.1
    spec = TrainSpec.from_dict(
        {**SPEC.to_dict(), "rho": 0.05, "learning_rate": SPEC.learning_rate / max(scale, 1), **options}
    )
    whole = train(network(), toy_data(scale), spec).model

    def interrupted(name: str) -> nn.Module:
        def stop(done: int, total: int, note: str) -> None:
            if done == 11:  # three whole epochs and two steps
                raise StoppedError

        with pytest.raises(StoppedError):
            train(network(), toy_data(scale), spec, tmp_path / name, progress=stop, pause=0.0)
        return train(network(), toy_data(scale), spec, tmp_path / name, pause=0.0).model

    assert same_state(interrupted("run"), whole)
    names = unseal((tmp_path / "run" / STATE).read_bytes(), tmp_path).arrays
    assert ("step.scaler.scale" in names) == ("precision" in options)
    assert ("step.mean.0" in names) == ("sam_variant" in options)
    monkeypatch.setattr(StepState, "restore", lambda *_: None)
    assert not same_state(interrupted("forgetful"), whole)  # so the state is needed


def test_a_plain_run_keeps_no_more_than_before(tmp_path):
    train(network(), toy_data(), TrainSpec(epochs=1, rho=0.1), tmp_path / "run")
    names = unseal((tmp_path / "run" / STATE).read_bytes(), tmp_path).arrays
    assert {name.split(".")[0] for name in names} == {"model", "optimiser"}
