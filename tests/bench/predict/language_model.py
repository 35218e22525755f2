"""The language model whose steps were recorded on a GPU, from its description: written out, layer by layer.

423 M parameters: 24 layers of width 1024, 16 heads, SwiGLU of 4096, a vocabulary of 10,000; batch 4.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

LAYERS, WIDTH, HEADS, INNER, WORDS, BATCH = 24, 1024, 16, 4096, 10_000, 4


class Linear(nn.Module):
    """A matrix product without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x, self.weight)


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return (self.weight * x).to(dtype)


def softmax(x: Tensor) -> Tensor:
    x = x - torch.max(x, dim=-1, keepdim=True)[0]
    exponential = torch.exp(x)
    return exponential / torch.sum(exponential, dim=-1, keepdim=True)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(key.shape[-1])
    scores = torch.where(mask, scores, float("-inf"))
    return torch.einsum("bhqk,bhkd->bhqd", softmax(scores), value)


class Attention(nn.Module):
    """Causal attention with rotary embedding."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(WIDTH, WIDTH) for _ in range(3))
        self.output = Linear(WIDTH, WIDTH)
        self.rotary = rotary

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        query, key, value = self.query(x), self.key(x), self.value(x)
        query, key, value = (one.view(BATCH, steps, HEADS, -1).transpose(1, 2) for one in (query, key, value))
        query = self.rotary(query)
        key = self.rotary(key)
        places = torch.arange(steps, device=x.device)
        mask = places[:, None] >= places[None]
        attended = attention(query, key, value, mask)
        return self.output(attended.transpose(1, 2).contiguous().view(BATCH, steps, WIDTH))


class Rotary(nn.Module):
    """Rotary embedding by look-up."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.register_buffer("angles", torch.ones(2, steps, WIDTH // HEADS // 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.angles  # type: ignore[misc]
        first, second = x.unflatten(-1, (-1, 2)).movedim(-1, 0)
        turned = cos * first - sin * second
        turned_too = sin * first + cos * second
        return torch.stack((turned, turned_too), -1).flatten(-2)


class SwiGlu(nn.Module):
    """Gated feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer, self.gate = Linear(WIDTH, INNER), Linear(INNER, WIDTH), Linear(WIDTH, INNER)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(silu(self.inner(x)) * self.gate(x))


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Layer(nn.Module):
    """One layer of the model."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.attention, self.network, self.before, self.between = Attention(rotary), SwiGlu(), Norm(), Norm()

    def forward(self, x: Tensor) -> Tensor:
        # Each name holds what it names until the end.
        attended = self.attention(self.before(x))
        between = x + attended
        expanded = self.network(self.between(between))
        return between + expanded


class Model(nn.Module):
    """The whole model."""

    def __init__(self, steps: int, layers: int) -> None:
        super().__init__()
        rotary = Rotary(steps)
        self.words = nn.Parameter(torch.ones(WORDS, WIDTH))
        self.layers = nn.ModuleList(Layer(rotary) for _ in range(layers))
        self.last, self.head = Norm(), Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.words[ids]
        x = embedded
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.last(x))
        return logits


def log_softmax(x: Tensor) -> Tensor:
    x = x - torch.max(x, dim=-1, keepdim=True)[0]
    return x - torch.log(torch.sum(torch.exp(x), dim=-1, keepdim=True))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    surprise = -log_softmax(logits)
    return torch.mean(torch.gather(surprise, -1, targets.unsqueeze(-1)))


class AdamW(torch.optim.Optimizer):
    """AdamW, tensor by tensor."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state, gradient = self.state[parameter], parameter.grad
                first = state.get("m", torch.zeros_like(gradient))
                second = state.get("v", torch.zeros_like(gradient))
                first = 0.9 * first + 0.1 * gradient
                second = 0.95 * second + 0.05 * torch.square(gradient)
                parameter.data -= 0.001 * first / (torch.sqrt(second) + 1e-8)
                parameter.data -= 0.001 * 0.1 * parameter.data
                state["m"], state["v"] = first, second


def job(
    steps: int, train: bool, half: bool, layers: int = LAYERS
) -> Callable[[str], tuple[nn.Module, Callable[[], None]]]:
    """Return a step of it as a job of any_step.py."""

    def make(device: str) -> tuple[nn.Module, Callable[[], None]]:
        model = Model(steps, layers)
        optimizer = AdamW(model.parameters())
        data: list[Tensor] = []

        def autocast() -> AbstractContextManager[Any]:
            return torch.autocast(device, torch.bfloat16) if half else nullcontext()

        def run() -> None:
            if not data:
                data.extend(torch.zeros(BATCH, steps, dtype=torch.int64, device=device) for _ in range(2))
            if not train:
                with torch.inference_mode(), autocast():
                    model(data[0])
                return
            optimizer.zero_grad()
            with autocast():
                logits = model(data[0])
                loss = cross_entropy(logits, data[1])
            loss.backward()
            optimizer.step()

        return model, run

    return make
