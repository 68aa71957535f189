"""Checkpoints that other people trained: their published accuracies, and what must be refused.

The files are not part of the project; see `checkpoint_folder` in conftest.py.
"""

import random
from pathlib import Path

import pytest
import reference_models
import torch

from landscape.checkpoints import load_into, open_checkpoint, read_weights
from landscape.errors import InputError
from landscape.spec import ProblemSpec

MODELS = Path(reference_models.__file__)
PLAIN, HALF = (("normalise", "none"),), (("normalise", "half"),)
USUAL = (("mean", "0.1307"), ("std", "0.3081"))

MNIST = {
    "mnist/stian_mnist_cnn.pt": ("two_convolutions", USUAL, 98.94),
    "mnist/khushbu_lenet.pt": ("lenet", (*USUAL, ("resize", "32")), 99.04),
    "mnist/dfdx_mnist.safetensors": ("paired_mlp", PLAIN, 98.49),
    "mnist/mbrar8_cnn_margin_10": ("tiny_cnn", HALF, 83.07),
    "mnist/mbrar8_cnn_nll_10_diverged": ("tiny_cnn", HALF, 10.10),
    "mnist_small_vs_larger_batch/wonhyeongseo_v0_bs64.ckpt": ("dropout_mlp", USUAL, 94.57),
    "mnist_small_vs_larger_batch/wonhyeongseo_v1_bs64.ckpt": ("dropout_mlp", USUAL, 95.07),
    "mnist_small_vs_larger_batch/wonhyeongseo_v3_bs256.ckpt": ("dropout_mlp", USUAL, 92.36),
    "mnist_small_vs_larger_batch/wonhyeongseo_v4_bs256.ckpt": ("dropout_mlp", USUAL, 92.85),
    "mnist_trajectory/mbrar8_dense_margin_epoch01": ("dense", HALF, 84.60),
    "mnist_trajectory/mbrar8_dense_margin_epoch10": ("dense", HALF, 93.04),
}
FITTING = {
    "cifar10/akamaster_resnet20.th": "option_a_resnet20",
    "cifar10/akamaster_resnet56.th": "option_a_resnet56",
    "cifar10/ehanw_resnet20.pth": "projected_resnet20",
    "cifar10/ehanw_resnet20_pgd.pth": "projected_resnet20",
    "cifar10_sam_vs_sgd/francpp_SGD.pt": "wide_resnet_8_2",
    "cifar10_sam_vs_sgd/francpp_SAM_rho0.01.pt": "wide_resnet_8_2",
    "cifar10_sam_vs_sgd/francpp_SAM_rho0.3.pt": "wide_resnet_8_2",
    **{f"mnist_trajectory/mbrar8_dense_margin_epoch{k:02d}": "dense" for k in range(2, 10)},
}
REFUSED = {
    "logancyang_model.pt": "loss_landscape_anim.model.MLP",
    "asim_char_rnn.pt": "model.CharRNN",
    "distiller_resnet20_sgd.pth.tar": "torch.optim.sgd.SGD",
}


def spec_for(factory, data, arguments, data_folder, **options):
    return ProblemSpec(
        model=f"{MODELS}:{factory}", data=data, data_args=arguments, data_folder=str(data_folder), split="test",
        device="cpu", **options,
    )  # fmt: skip


@pytest.mark.parametrize("file", MNIST)
def test_mnist_accuracies_are_those_published(checkpoint_folder, data_folder, file):
    factory, arguments, percent = MNIST[file]
    opened = open_checkpoint(checkpoint_folder / file, spec_for(factory, "mnist", arguments, data_folder))
    loss, accuracy = opened.evaluate()
    assert opened.main.size == 10_000
    assert 100 * accuracy == pytest.approx(percent, abs=0.015)
    diverged = "diverged" in file
    assert any("what guessing gives" in note for note in opened.notes) == diverged
    assert (loss > 80) == diverged


@pytest.mark.slow
def test_cifar_resnet20_has_the_published_accuracy(checkpoint_folder, data_folder):
    arguments = (("normalise", "imagenet"),)
    spec = spec_for("option_a_resnet20", "cifar10", arguments, data_folder)
    opened = open_checkpoint(checkpoint_folder / "cifar10" / "akamaster_resnet20.th", spec)
    assert 100 * opened.evaluate().accuracy == pytest.approx(91.73, abs=0.05)
    assert opened.weights.stored == {"best_prec1": pytest.approx(91.78, abs=0.001)}
    assert not any("accuracy" in note for note in opened.notes)


@pytest.mark.slow
def test_a_clean_load_of_the_wrong_network_is_noted(checkpoint_folder, data_folder):
    (file,) = (checkpoint_folder / "traps").iterdir()
    spec = spec_for("distilled_resnet20", "cifar10", HALF, data_folder, examples=1000)
    notes = open_checkpoint(file, spec).notes
    assert any("best_top1 = 94.24" in note for note in notes)


@pytest.mark.parametrize("file", FITTING)
def test_weights_fit_their_architecture(checkpoint_folder, file):
    model = getattr(reference_models, FITTING[file])()
    weights = read_weights(checkpoint_folder / file)
    load_into(model, weights)
    state = model.state_dict()
    for name, tensor in weights.tensors.items():
        assert torch.equal(state[name.removeprefix("module.")], tensor)


def test_another_depth_does_not_fit(checkpoint_folder):
    weights = read_weights(checkpoint_folder / "cifar10" / "akamaster_resnet56.th")
    with pytest.raises(InputError, match="larger variant"):
        load_into(reference_models.option_a_resnet20(), weights)


@pytest.mark.parametrize("file", REFUSED)
def test_pickled_code_is_refused_by_name(checkpoint_folder, file):
    with pytest.raises(InputError, match=REFUSED[file]) as caught:
        read_weights(checkpoint_folder / "must_refuse" / file)
    assert "\n" not in str(caught.value)


def test_no_file_that_must_be_refused_is_forgotten(checkpoint_folder):
    assert {path.name for path in (checkpoint_folder / "must_refuse").iterdir()} == set(REFUSED)


@pytest.mark.parametrize(
    "file",
    [
        "mnist_trajectory/mbrar8_dense_margin_epoch03",
        "cifar10/ehanw_resnet20.pth",
        "mnist_small_vs_larger_batch/wonhyeongseo_v0_bs64.ckpt",
        "mnist/khushbu_lenet.pt",
        "mnist/dfdx_mnist.safetensors",
    ],
)
def test_damage_at_200_positions_is_one_line(checkpoint_folder, tmp_path, file):
    """Zip archives notice every flip; the other two formats have no checksum, but every truncation is noticed."""
    content = (checkpoint_folder / file).read_bytes()
    rng, path = random.Random(file), tmp_path / "damaged"
    unnoticed = 0
    for _ in range(100):
        bit = rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            read_weights(path)
            unnoticed += 1
        except InputError as error:
            unnoticed += "\n" in str(error)
        path.write_bytes(content[: rng.randrange(len(content))])
        with pytest.raises(InputError, match=r"^[^\n]*$"):
            read_weights(path)
    assert (unnoticed == 0) == content.startswith(b"PK")
