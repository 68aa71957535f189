"""The networks and problems that benchmarks share: trained on the spot from fixed seeds, or read from a checkpoint."""

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import seeds
from landscape.checkpoints import load_into, prepare
from landscape.data import batches, load_dataset, subset
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.models import build_model
from landscape.problem import Problem
from landscape.reading.weights import read_weights
from landscape.spec import ProblemSpec, TrainSpec
from landscape.training.run import train

CONTEXT = 64
CHECKPOINT = "cifar10/akamaster_resnet20.th"


# -- networks --------------------------------------------------------------------------------------


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each after a layer norm and beside an identity."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A causal transformer over characters: (batch, time) indices -> (batch, vocabulary, time) logits."""

    def __init__(
        self, vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, hidden: int = 128,
        context: int = CONTEXT, tied: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.token(x) + self.position(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(embedded))).transpose(1, 2)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm; where the shape changes the shortcut is a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        project = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else nn.Sequential(*project)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for images of 32×32 (He et al. 2016), 11.2 million parameters at width 64."""

    def __init__(self, classes: int = 10, width: int = 64):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        blocks, before = [], width
        for stage in range(4):
            channels = width * 2**stage
            first = ResidualBlock(before, channels, 1 if stage == 0 else 2)
            blocks += [first, ResidualBlock(channels, channels, 1)]
            before = channels
        self.blocks, self.linear = nn.Sequential(*blocks), nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3)))


def gpt2(tiny: bool = False) -> GPT:
    """A network of GPT-2's shape with random weights: n = 124 million, context 1024, tied embedding; or a tiny one."""
    shape = (97, 32, 2, 2, 64, 32) if tiny else (50257, 768, 12, 12, 3072, 1024)
    with seeds.global_stream(0, "gpt2"):
        model = GPT(*shape, tied=True)
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=seeds.stream(0, "gpt2", *module.weight.shape))
    return model


# -- problems --------------------------------------------------------------------------------------


def digits_problem(dtype: torch.dtype = torch.float32, epochs: int = 20) -> Problem:
    """A 64-64-64-10 perceptron after 20 epochs on the digits, all of them as one batch."""
    model, dataset = prepare(ProblemSpec(model="mlp", model_args=(("widths", "64,64"),), data="digits"), seed=0)
    trained = train(model, dataset, TrainSpec(epochs=epochs, learning_rate=0.05, schedule="cosine"))
    data = batches(dataset.train, 2000, torch.device("cpu"), dtype)
    return Problem(trained.model.to(dtype), loss_by_name("cross_entropy"), data)


def resnet20_problem(examples: int = 512, batch: int = 128) -> Problem:
    """A public ResNet-20 (92 % on CIFAR-10) with some training images, a fixed random subset, in float32.

    Needs the folder LANDSCAPE_DATA with `cifar-10`, and beside it `checkpoints`; raises `InputError` without.
    """
    file = _data_folder().resolve().parent / "checkpoints" / CHECKPOINT
    if not file.exists():
        raise InputError(f"{CHECKPOINT} is not in a folder `checkpoints` beside LANDSCAPE_DATA.")
    dataset = load_dataset("cifar10", (("normalise", "imagenet"),))
    model = build_model("resnet20")
    load_into(model, read_weights(file))
    return Problem(model, loss_by_name("cross_entropy"), batches(subset(dataset.train, examples, 0), batch))


def _data_folder() -> Path:
    folder = os.environ.get("LANDSCAPE_DATA")
    if not folder:
        raise InputError("the folder of data sets is not known: set the environment variable LANDSCAPE_DATA.")
    return Path(folder)


def _trained_once(model: nn.Module, recipe: str, training) -> None:
    """Do `training()`, or read what it made of the model before from the temporary folder."""
    state = {"recipe": recipe, "torch": torch.__version__, "threads": torch.get_num_threads()}
    start = hashlib.sha256(repr(state).encode())
    for parameter in model.parameters():
        start.update(parameter.detach().numpy().tobytes())
    kept = Path(tempfile.gettempdir()) / f"landscape-trained-{start.hexdigest()[:16]}.pt"
    if kept.exists():
        model.load_state_dict(torch.load(kept, weights_only=True))
        return
    training()
    torch.save(model.state_dict(), kept)


def shakespeare() -> tuple[Tensor, int]:
    """The text of `tinyshakespeare/input.txt` in the folder LANDSCAPE_DATA as indices, and the vocabulary's size."""
    file = _data_folder() / "tinyshakespeare" / "input.txt"
    if not file.exists():
        raise InputError(f"the text of the GPT is missing: {file}.")
    text = file.read_bytes()
    characters = sorted(set(text))
    table = torch.zeros(256, dtype=torch.int64)
    table[characters] = torch.arange(len(characters))
    return table[torch.frombuffer(bytearray(text), dtype=torch.uint8).long()], len(characters)


def gpt(steps: int = 1200, batch: int = 16) -> GPT:
    """A four-layer GPT of width 128 (n = 4.2e5) after `steps` steps of AdamW on tinyshakespeare, in float32."""
    data, vocabulary = shakespeare()
    rng = seeds.stream(0, "gpt data")
    with seeds.global_stream(0, "gpt"):
        model = GPT(vocabulary)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.weight.data *= 0.1
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def training() -> None:
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 40) * (1 - step / steps)
            at = torch.randint(len(data) - CONTEXT - 1, (batch,), generator=rng)[:, None] + torch.arange(CONTEXT + 1)
            loss = F.cross_entropy(model(data[at[:, :-1]]), data[at[:, 1:]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    _trained_once(model, f"gpt {steps} {batch}", training)
    model.zero_grad(set_to_none=True)
    return model


def gpt_problem(model: GPT, dtype: torch.dtype, sequences: int = 16) -> Problem:
    """The model's loss on the first `sequences` stretches of text, as one batch."""
    data, _ = shakespeare()
    pieces = data[: sequences * (CONTEXT + 1)].view(sequences, CONTEXT + 1)
    return Problem(model.to(dtype), loss_by_name("cross_entropy"), [(pieces[:, :-1], pieces[:, 1:])])
