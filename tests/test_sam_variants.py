"""Every variant of SAM against the papers' formulas over 20 steps, and what must not change a bit."""

import copy

import pytest
import torch
from sam_by_hand import ByHand
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training import shards
from landscape.training.gsam import subtract_orthogonal
from landscape.training.norm_layers import norm_parameters
from landscape.training.run import train

VARIANTS: dict[str, dict] = {
    "sam": {},
    "asam": {"adaptive": True},
    "m-sam": {"sam_shard": 4},
    "m-asam": {"sam_shard": 4, "adaptive": True},
    "every 3": {"sam_every": 3},
    "norms only": {"sam_norms_only": True},
    "gsam": {"sam_variant": "gsam", "gsam_alpha": 0.3},
    "adaptive gsam in shards": {"sam_variant": "gsam", "sam_shard": 4, "adaptive": True},
    "gsam, falling": {"sam_variant": "gsam", "rho_min": 0.05, "schedule": "cosine"},
    "m-sam, falling": {"sam_shard": 4, "rho_min": 0.0, "schedule": "cosine"},
    "gsam every 2": {"sam_variant": "gsam", "sam_every": 2},
    "friendly": {"sam_variant": "friendly"},
    "friendly every 2": {"sam_variant": "friendly", "friendly_sigma": 0.6, "friendly_decay": 0.7, "sam_every": 2},
    "friendly norms": {"sam_variant": "friendly", "sam_norms_only": True},
}  # fmt: skip
CONDITIONS: dict[str, dict] = {"plain": {}, "accumulation 4 and clipping": {"micro_batch": 3, "clip_norm": 0.3}}


def toy_data(dtype=torch.float64, examples=50) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), examples + 10, torch.empty(4, dtype=dtype))
    y = x[:, :3].argmax(1)
    return Dataset("toy", Split(x[:-10], y[:-10]), Split(x[-10:], y[-10:]), "classification", 3, "", {})


class Tied(nn.Module):
    """Two layers with one weight, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.again, self.frozen, self.last = (nn.Linear(*s) for s in ((4, 4), (4, 4), (4, 4), (4, 3)))
        self.again.weight = self.inner.weight
        self.frozen.requires_grad_(False)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.frozen(self.norm(self.again(self.inner(x).tanh()))).relu())


def network(kind="batch norm", dtype=torch.float64, dropout=0.3) -> nn.Module:
    with seeds.global_stream(1, "network"):
        if kind == "tied":
            return Tied().to(dtype)
        norm = {"batch norm": nn.BatchNorm1d, "layer norm": nn.LayerNorm}[kind](8)
        drop = [nn.Dropout(dropout)] if dropout else []
        return nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), *drop, nn.Linear(8, 3)).to(dtype)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def consecutive(size: int | None, model: nn.Module):
    """Sizes of consecutive parts; with batch norm a single example left joins the part before."""
    joined = any(isinstance(m, nn.BatchNorm1d) for m in model.modules())

    def sizes(examples: int) -> list[int]:
        if size is None or size >= examples:
            return [examples]
        parts = [size] * (examples // size) + ([examples % size] if examples % size else [])
        return parts if parts[-1] > 1 or not joined else [*parts[:-2], parts[-2] + 1]

    return sizes


# -- against the formulas -----------------------------------------------------------------------------------


def compare(model: nn.Module, spec: TrainSpec) -> None:
    parts, pieces = consecutive(spec.micro_batch, model), consecutive(spec.sam_shard, model)
    hand = ByHand(copy.deepcopy(model), spec, parts, pieces).train(toy_data())
    trained = train(model, toy_data(), spec).model
    assert hand.steps == 20
    torch.testing.assert_close(flat(trained), hand.w, rtol=1e-8, atol=1e-8)
    for name, buffer in trained.named_buffers():
        torch.testing.assert_close(buffer, hand.buffers[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_with_batch_norm_equal_the_formulas(variant, optimiser, condition):
    rate = {"sgd": 0.1, "adam": 0.01}[optimiser]
    spec = TrainSpec(epochs=4, batch_size=11, optimiser=optimiser, learning_rate=rate, l2=0.02, rho=0.2,
                     **VARIANTS[variant], **CONDITIONS[condition])  # fmt: skip
    compare(network(dropout=0), spec)


@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_with_tied_and_frozen_weights_equal_the_formulas(variant):
    compare(network("tied"), TrainSpec(epochs=4, batch_size=11, rho=0.2, l2=0.02, **VARIANTS[variant]))


@pytest.mark.parametrize("change", [{}, {"adaptive": True}, {"sam_norms_only": True}, {"micro_batch": 9}])
@pytest.mark.parametrize("kind", ["layer norm", "tied"])
def test_shards_as_one_program_equal_the_formulas(kind, change, monkeypatch):
    batched = []
    original = shards.sharpness_aware_stack
    monkeypatch.setattr(shards, "sharpness_aware_stack", lambda t, s, *r: batched.append(len(s)) or original(t, s, *r))
    compare(network(kind, dropout=0), TrainSpec(epochs=4, batch_size=11, rho=0.2, sam_shard=2, **change))
    assert batched[0] == 4 if change != {"micro_batch": 9} else max(batched) <= 4
    spec = TrainSpec(epochs=4, batch_size=11, rho=0.2, sam_shard=2, **change)
    rows = train(network(kind, dropout=0), toy_data(), spec).history
    monkeypatch.setattr(shards, "stackable", lambda *_: 1)
    for row, other in zip(rows, train(network(kind, dropout=0), toy_data(), spec).history, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-9)
        assert row["train_accuracy"] == other["train_accuracy"]


def test_shards_with_dropout_are_taken_one_by_one_with_equal_masks():
    seen: list[Tensor] = []

    class Recorder(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:
            output = super().forward(input)
            if self.training:
                seen.append(output.detach() == 0)
            return output

    train(nn.Sequential(Recorder(0.5), nn.Linear(4, 3)).double(), toy_data(),
          TrainSpec(epochs=1, batch_size=50, rho=0.1, sam_shard=25))  # fmt: skip
    first, again, second, second_again = seen
    assert torch.equal(first, again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, second)


def test_a_parameter_without_gradient_is_left_alone_by_every_variant():
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last, self.spare = nn.LayerNorm(4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(x))

    for variant in VARIANTS.values():
        model = Unused().double()
        trained = train(model, toy_data(), TrainSpec(epochs=1, batch_size=10, rho=0.1, weight_decay=0.5, **variant))
        assert torch.equal(trained.model.spare.weight, model.spare.weight)  # weight decay would have moved it
        assert not torch.equal(trained.model.last.weight, model.last.weight)


def test_masks_of_the_second_pass_are_its_own_when_asked():
    def masks(**options) -> list[Tensor]:
        seen: list[Tensor] = []

        class Recorder(nn.Dropout):
            def forward(self, input: Tensor) -> Tensor:
                output = super().forward(input)
                if self.training:
                    seen.append(output.detach() == 0)
                return output

        train(nn.Sequential(Recorder(0.5), nn.Linear(4, 3)).double(), toy_data(),
              TrainSpec(epochs=1, batch_size=50, rho=0.1, **options))  # fmt: skip
        return seen

    parts = masks(micro_batch=25)
    assert torch.equal(parts[0], parts[2])
    assert torch.equal(parts[1], parts[3])
    first, other = masks(sam_same_mask=False)
    assert not torch.equal(first, other)


def test_gsam_on_two_vectors():
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.tensor([2.0, 0.0], dtype=torch.float64)
    subtract_orthogonal([p], [torch.tensor([3.0, 5.0], dtype=torch.float64)], 0.5)
    torch.testing.assert_close(p.grad, torch.tensor([2.0, -2.5], dtype=torch.float64))
    p.grad = torch.zeros_like(p)
    subtract_orthogonal([p], [torch.tensor([3.0, 5.0], dtype=torch.float64)], 0.5)
    torch.testing.assert_close(p.grad, torch.tensor([-1.5, -2.5], dtype=torch.float64))


def test_gsam_of_gradients_in_other_orders_of_memory():
    """Convolutions in channels_last have gradients that are no flat rows."""
    g, a = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    straight, turned = nn.Parameter(torch.zeros_like(a)), nn.Parameter(torch.zeros_like(a))
    straight.grad, turned.grad = a.clone(), a.T.contiguous().T
    subtract_orthogonal([straight], [g.clone()], 0.3)
    subtract_orthogonal([turned], [g.T.contiguous().T], 0.3)
    torch.testing.assert_close(turned.grad, straight.grad)
    orthogonal = g - (g * a).sum() / (a * a).sum() * a
    torch.testing.assert_close(straight.grad, a - 0.3 * orthogonal)


# -- to the bit ---------------------------------------------------------------------------------------------

BASES: dict[str, dict] = {
    "one pass": {},
    "accumulation": {"micro_batch": 4},
    "chunks": {"chunk": 3},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16", "clip_norm": 0.5},
    "adam": {"optimiser": "adam", "learning_rate": 0.01},
}


@pytest.mark.parametrize("base", BASES)
def test_zero_radius_changes_no_bit_in_any_variant(base):
    data, common = toy_data(torch.float32), {"epochs": 2, "batch_size": 11, **BASES[base]}
    expected = train(network(dtype=torch.float32), data, TrainSpec(**common)).model
    for variant in (*VARIANTS.values(), {"sam_same_mask": False}):
        variant = {k: v for k, v in variant.items() if k not in ("schedule", "rho_min")}
        found = train(network(dtype=torch.float32), data, TrainSpec(rho=0.0, **common, **variant)).model
        assert same_state(found, expected), variant
    falling = train(network(dtype=torch.float32), data, TrainSpec(rho=0.0, rho_min=0.0, **common)).model
    assert same_state(falling, expected)


def test_radius_follows_the_learning_rate():
    spec = TrainSpec(rho=0.4, rho_min=0.1, learning_rate=0.2, batch_size=64, base_batch_size=32, lr_scaling="linear")
    assert [spec.radius(rate) for rate in (0.4, 0.2, 0.0)] == [0.4, 0.25, 0.1]
    assert TrainSpec(rho=0.4).radius(0.0) == 0.4
    assert TrainSpec(rho=0.4, rho_min=0.1, learning_rate=0.0).radius(0.0) == 0.4
    with pytest.raises(InputError, match=r"rho_min = 0\.5 is not legal: it must be at most rho = 0\.4"):
        TrainSpec(rho=0.4, rho_min=0.5)


def test_limits_of_the_variants_are_sam_to_the_bit():
    def trained(**options) -> nn.Module:
        return train(network(), toy_data(), TrainSpec(epochs=2, batch_size=11, rho=0.2, **options)).model

    sam = trained()
    assert same_state(trained(sam_variant="gsam", gsam_alpha=0.0), sam)
    assert same_state(trained(sam_variant="friendly", friendly_sigma=0.0), sam)
    assert same_state(trained(sam_shard=11), sam)
    assert same_state(trained(sam_shard=1000), sam)
    assert not same_state(trained(sam_shard=5), sam)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options", [{}, {"rho": 0.1}, {"rho": 0.1, "sam_variant": "gsam"}], ids=["plain", "sam", "gsam"]
)
def test_chunks_have_the_same_bits_whatever_fits_in_memory(options, dtype):
    data = toy_data(dtype)

    def trained(**more) -> nn.Module:
        spec = TrainSpec(epochs=3, batch_size=25, **options, **more)
        return train(network("layer norm", dtype, dropout=0), data, spec).model

    one = trained(chunk=4)
    for micro_batch in (4, 8, 24, 1000):
        assert same_state(trained(chunk=4, micro_batch=micro_batch), one)
    assert same_state(trained(micro_batch=4), one)
    assert not same_state(trained(chunk=5), one)
    torch.testing.assert_close(flat(trained()), flat(one), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_accumulation_has_the_bits_of_all_chunks_held_in_memory_at_once():
    model, data = network("layer norm", torch.float32, dropout=0), toy_data(torch.float32)
    spec = TrainSpec(epochs=2, batch_size=16, chunk=4, momentum=0.0)
    trained = train(model, data, spec).model
    for epoch in (1, 2):
        order = seeds.permutation(seeds.stream(0, "order", epoch), 50)
        for part in order.split(16):
            x, y = data.train.inputs[part].split(4), data.train.targets[part].split(4)
            losses = [F.cross_entropy(model(a), b, reduction="sum") / len(part) for a, b in zip(x, y, strict=True)]
            gradients = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]  # all graphs alive
            with torch.no_grad():
                for p, *pieces in zip(model.parameters(), *gradients, strict=True):
                    total = pieces[0]
                    for piece in pieces[1:]:
                        total = total + piece
                    p.add_(total, alpha=-0.1)
    assert same_state(trained, model)


# -- what is refused ----------------------------------------------------------------------------------------


def test_norm_parameters_are_those_of_norm_layers():
    class LlamaRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    class Normaliser(nn.Linear):
        pass

    layers = [nn.Linear(3, 3), nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(3), LlamaRMSNorm(),
              Normaliser(3, 3), nn.LayerNorm(3), nn.RMSNorm(3)]  # fmt: skip
    model = nn.Sequential(*layers)
    layers[6].weight = layers[1].weight
    layers[6].bias.requires_grad_(False)
    wanted = [layers[1].weight, layers[1].bias, layers[2].weight, layers[2].bias, layers[4].weight, layers[7].weight]
    assert [id(p) for p in norm_parameters(model)] == [id(p) for p in wanted]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sam_variant": "friendly", "sam_shard": 3}, "sam_shard = 3"),
        ({"sam_variant": "friendly", "data_parallel": True, "sam_sync": "rank"}, "sam_sync = 'rank'"),
        ({"chunk": 4, "micro_batch": 6}, "multiple of chunk = 4"),
        ({"chunk": 4, "micro_batch": 2}, "multiple of chunk = 4"),
        ({"sam_every": 0}, "at least 1"),
        ({"gsam_alpha": -1.0}, "at least 0"),
        ({"precision": "half"}, "one of full, bfloat16, float16"),
    ],
)
def test_illegal_options(options, says):
    with pytest.raises(InputError, match=says):
        TrainSpec(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sam_shard": 1, "rho": 0.1}, "sam_shard = 1"),
        ({"micro_batch": 1}, "micro_batch = 1"),
        ({"chunk": 1}, "chunk = 1"),
        ({"data_parallel": True}, "process group"),
    ],
)
def test_options_that_do_not_fit_the_model(options, says):
    with pytest.raises(InputError, match=says):
        train(network(), toy_data(), TrainSpec(epochs=1, **options))


def test_a_model_without_norms_cannot_ascend_in_them():
    model = nn.Sequential(nn.Linear(4, 3)).double()
    with pytest.raises(InputError, match="sam_norms_only"):
        train(model, toy_data(), TrainSpec(epochs=1, rho=0.1, sam_norms_only=True))
    plain = [train(model, toy_data(), TrainSpec(epochs=1, sam_norms_only=only)).model for only in (False, True)]
    assert same_state(*plain)  # at ρ = 0 there is no ascent
