import pytest
import torch
from torch import nn
from torch.func import functional_call

from landscape.data import batches, load_dataset, subset
from landscape.errors import InputError
from landscape.models import MODELS, build_model
from landscape.seeds import global_stream


def made(name, *arguments, **offered):
    with global_stream(0, "test model"):
        return build_model(name, arguments, **offered)


def count(model):
    return sum(p.numel() for p in model.parameters())


# He et al. 2016, table 6: 0.27M, 0.46M, 0.66M, 0.85M; the exact numbers are summed by hand from its layers.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet44", 658_586), ("resnet56", 853_018)],
)
def test_cifar_resnets_have_the_papers_number_of_parameters(name, parameters):
    assert count(made(name)) == parameters


def by_hand(convolutions, dense):
    """Weights and biases of layers (inputs, outputs, side) / (inputs, outputs) and two per batch-norm unit."""
    total = sum(i * o * side * side + 3 * o for i, o, side in convolutions) + sum(i * o + 3 * o for i, o in dense)
    return total - 2 * dense[-1][1]  # no batch norm on the outputs


VGG = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)] + [(512, 512)] * 5


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("f1", (1, 28, 28), by_hand([], [(784, 512), *[(512, 512)] * 4, (512, 10)])),
        ("c1", (3, 32, 32), by_hand([(3, 64, 5), (64, 64, 5)], [(4096, 384), (384, 192), (192, 10)])),
        ("c2", (3, 32, 32), by_hand([(i, o, 3) for i, o in VGG], [(512, 512), (512, 10)])),
        ("c3", (3, 32, 32), by_hand([(3, 64, 5), (64, 64, 5)], [(4096, 384), (384, 192), (192, 100)])),
        ("c4", (3, 32, 32), by_hand([(i, o, 3) for i, o in VGG], [(512, 512), (512, 100)])),
    ],
)
def test_keskars_networks(name, shape, parameters):
    model = made(name)
    assert count(model) == parameters
    outputs = 100 if name in ("c3", "c4") else 10
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, outputs)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, shape) for name in ("mlp", "cnn", "resnet20") for shape in ((1, 8, 8), (2, 9, 15))),
        ("c1", (2, 9, 15)),
        ("c2", (1, 28, 28)),
    ],
)
def test_models_take_images_of_any_size(name, shape):
    model = made(name, input_shape=shape, outputs=7)
    assert model.eval()(torch.zeros(3, *shape)).shape == (3, 7)


def test_arguments_shape_the_mlp_and_the_cnn():
    model = made("mlp", ("widths", "5,3"), ("activation", "tanh"), ("norm", "layer"), input_shape=(64,), outputs=2)
    kinds = [nn.Flatten, *[nn.Linear, nn.LayerNorm, nn.Tanh] * 2, nn.Linear]
    assert [type(m) for m in model.children()] == kinds
    assert count(model) == 64 * 5 + 5 + 10 + 15 + 3 + 6 + 6 + 2
    linear = made("mlp", ("widths", ""), input_shape=(4,), outputs=3)
    assert count(linear) == 15
    model = made("cnn", ("channels", "4"), ("norm", "batch"), ("dropout", "0.2"), input_shape=(1, 8, 8), outputs=2)
    assert count(model) == 4 * 9 + 4 + 8 + 4 * 16 * 2 + 2
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.2]


def test_the_shortcut_subsamples_and_pads_with_zero_channels():
    block = made("resnet20").get_submodule("layer2.0").eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 16, 8, 8)
    y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].abs().max() == y[:, 24:].abs().max() == 0


def test_he_initialisation():
    weight = made("resnet20").get_parameter("layer3.1.conv1.weight")
    assert abs(weight.std().item() / (2 / (64 * 9)) ** 0.5 - 1) < 0.01


def test_initial_weights_come_from_the_global_stream():
    first, again = made("cnn", input_shape=(1, 8, 8), outputs=2), made("cnn", input_shape=(1, 8, 8), outputs=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with global_stream(1, "test model"):
        other = build_model("cnn", (), (1, 8, 8), 2)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


SMALL = [
    ("mlp", (("norm", "batch"), ("widths", "4,4"), ("activation", "gelu")), (3,)),
    ("mlp", (("norm", "layer"), ("widths", "4"), ("activation", "silu")), (3,)),
    ("cnn", (("channels", "2,3"), ("norm", "batch"), ("activation", "softplus")), (1, 4, 4)),
    ("cnn", (("channels", "2"), ("activation", "tanh")), (1, 4, 4)),
    ("resnet20", (), (1, 4, 4)),
    ("c1", (), (1, 4, 4)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), SMALL)
@pytest.mark.parametrize("training", [False, True])
def test_double_backward_agrees_with_differences_of_gradients(name, arguments, shape, training):
    model = made(name, *arguments, input_shape=shape, outputs=3).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(5, *shape, generator=rng, dtype=torch.float64)
    weights = {k: p.detach() for k, p in model.named_parameters()}
    direction = {k: torch.randn(p.shape, generator=rng, dtype=torch.float64) for k, p in weights.items()}

    def gradient(step, create_graph=False):
        moved = {k: (p + step * direction[k]).requires_grad_() for k, p in weights.items()}
        loss = nn.functional.cross_entropy(functional_call(model, moved, (x,)), torch.tensor([0, 1, 2, 0, 1]))
        return moved, torch.autograd.grad(loss, list(moved.values()), create_graph=create_graph)

    moved, now = gradient(0.0, create_graph=True)
    exact = torch.autograd.grad(now, list(moved.values()), list(direction.values()), materialize_grads=True)
    step = 1e-8  # small, so that no ReLU of the deep network changes sides within it
    ahead, behind = gradient(step)[1], gradient(-step)[1]
    flat = torch.cat([e.flatten() for e in exact])
    differences = torch.cat([((a - b) / (2 * step)).flatten() for a, b in zip(ahead, behind, strict=True)])
    assert (flat - differences).norm() < 1e-4 * flat.norm()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resnet18", (), "mlp, cnn, resnet20"),
        ("mlp", (("depth", "3"),), "widths=64,64"),
        ("mlp", (("widths", "64,x"),), "whole number"),
        ("mlp", (("widths", "0"),), "at least 1"),
        ("mlp", (("activation", "hard"),), "relu"),
        ("mlp", (("norm", "group"),), "none, batch, layer"),
        ("mlp", (("dropout", "1"),), "below 1"),
        ("cnn", (("channels", "4,4,4,4"),), "16×16"),
        ("cnn", (("input_shape", "64"),), "channels, height, width"),
        ("resnet20", (("input_shape", "64"),), "channels, height, width"),
    ],
)
def test_wrong_models_are_refused_in_one_line(name, arguments, words):
    with pytest.raises(InputError) as caught:
        build_model(name, arguments, (1, 8, 8), 10)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_are_needed_where_nothing_else_tells_them():
    with pytest.raises(InputError, match="needs input_shape, outputs"):
        build_model("mlp")


def test_the_users_own_model(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n"
        "def net(width: int = 3, num_classes: int = 10):\n    return nn.Linear(width, num_classes)\n"
        "def nothing():\n    return 3\n"
    )
    model = build_model(f"{path}:net", (("width", "6"),), (1, 8, 8), 2)
    assert model.weight.shape == (2, 6)
    with pytest.raises(InputError, match="returned int"):
        build_model(f"{path}:nothing")


def test_every_model_is_listed_and_builds():
    assert set(MODELS) >= {"mlp", "cnn", "resnet20", "resnet32", "resnet44", "resnet56", "f1", "c1", "c2", "c3", "c4"}


@pytest.mark.slow
def test_a_public_resnet20_loads_straight_in_and_is_as_accurate_as_measured_elsewhere(data_folder, checkpoint_folder):
    stored = torch.load(checkpoint_folder / "cifar10" / "akamaster_resnet20.th", map_location="cpu", weights_only=True)
    model = made("resnet20").eval()
    state = {key.removeprefix("module."): value for key, value in stored["state_dict"].items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all("num_batches_tracked" in key for key in missing)  # older files do not have it
    test = subset(load_dataset("cifar10", (("normalise", "imagenet"),), data_folder).test, 2000, 0)
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in batches(test, 500))
    assert hits / 2000 == pytest.approx(0.9173, abs=2 * (0.9173 * 0.0827 / 2000) ** 0.5)
