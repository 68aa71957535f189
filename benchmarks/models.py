"""The networks that benchmarks share, trained on the spot from fixed seeds."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape import seeds
from landscape.losses import loss_by_name
from landscape.problem import Problem

CONTEXT = 64


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

    def __init__(self, vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, hidden: int = 128):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.token(x) + self.position(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(embedded))).transpose(1, 2)


def shakespeare() -> tuple[Tensor, int]:
    """The text of `tinyshakespeare/input.txt` in the folder LANDSCAPE_DATA as indices, and the vocabulary's size."""
    text = (Path(os.environ["LANDSCAPE_DATA"]) / "tinyshakespeare" / "input.txt").read_bytes()
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
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 40) * (1 - step / steps)
        at = torch.randint(len(data) - CONTEXT - 1, (batch,), generator=rng)[:, None] + torch.arange(CONTEXT + 1)
        loss = F.cross_entropy(model(data[at[:, :-1]]), data[at[:, 1:]])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.zero_grad(set_to_none=True)
    return model


def gpt_problem(model: GPT, dtype: torch.dtype, sequences: int = 16) -> Problem:
    """The model's loss on the first `sequences` stretches of text, as one batch."""
    data, _ = shakespeare()
    pieces = data[: sequences * (CONTEXT + 1)].view(sequences, CONTEXT + 1)
    return Problem(model.to(dtype), loss_by_name("cross_entropy"), [(pieces[:, :-1], pieces[:, 1:])])
