"""A training step of a small transformer decoder: causal attention, activation checkpointing, gradient accumulation.

etad-bench memory --step examples/steps/decoder.py:make_step --arg layers=4 --batch 2,8
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.before_mlp(x))


class Decoder(nn.Module):
    def __init__(self, words: int, width: int, layers: int, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Layer(width, width // 64) for _ in range(layers))
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=self.reentrant)
        return self.head(x)


def make_step(
    batch: int = 4, length: int = 256, width: int = 256, layers: int = 3, words: int = 8000, reentrant: bool = False
) -> Callable[[], None]:
    model = Decoder(words, width, layers, reentrant).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    texts = torch.zeros(2, batch, length, dtype=torch.long, device="cuda")

    def step() -> None:
        for text in texts:
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(model(text).flatten(0, 1), text.flatten())
            (loss / len(texts)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
