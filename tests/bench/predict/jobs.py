"""Jobs of any_step.py: small steps, each of which needs rules that no step of ETAD does."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench.predict.any_step import Job

HALF = torch.bfloat16


def _training(
    model: nn.Module, loss: Callable[[], Tensor], device: str, autocast: torch.dtype | None = None
) -> tuple[nn.Module, Callable[[], None]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, autocast or HALF, enabled=autocast is not None):
            value = loss()
        value.backward()
        optimizer.step()

    return model, step


def linear_layers(device: str) -> tuple[nn.Module, Callable[[], None]]:
    """Sums over the leading dimensions, and a gradient that cuBLAS cannot read as it lies."""
    model = nn.Sequential(nn.Linear(512, 768), nn.ReLU(), nn.Linear(768, 512))
    return _training(model, lambda: model(torch.ones(16, 80, 512, device=device)).sum(), device)


def autocast_calls(device: str) -> tuple[nn.Module, Callable[[], None]]:
    """What CUDA's autocast does in fp32."""
    weight = nn.Parameter(torch.ones(64, 1280))
    model = nn.ParameterList([weight])

    def loss() -> Tensor:
        hidden = torch.einsum("bsd,dk->bsk", torch.ones(4, 32, 64, device=device), weight)
        total = hidden.exp() + hidden.rsqrt() + F.softplus(hidden) + hidden.cumsum(1) + F.gelu(hidden)
        targets = torch.zeros(128, dtype=torch.int64, device=device)
        losses = F.cross_entropy(hidden.flatten(0, 1), targets) + F.mse_loss(hidden, hidden * 2)
        return total.sum() + losses + hidden.logsumexp(-1).sum() + hidden.norm() + F.layer_norm(hidden, (1280,)).sum()

    return _training(model, loss, device, HALF)


def inference(device: str) -> tuple[nn.Module, Callable[[], None]]:
    """Half precision in inference mode, whose weights are cast anew each time."""
    model = nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512))
    gate = nn.Parameter(torch.ones(512, 512))
    model.register_parameter("mixed", gate)

    @torch.inference_mode()
    def step() -> None:
        with torch.autocast(device, HALF):
            x = model(torch.ones(8, 40, 512, device=device))
            torch.einsum("bsd,kd->bsk", x, gate).softmax(-1)

    return model, step


def indexing(device: str) -> tuple[nn.Module, Callable[[], None]]:
    """Gradients that are written to their places."""
    weight = nn.Parameter(torch.ones(640, 1280))
    model = nn.ParameterList([weight])

    def loss() -> Tensor:
        places = torch.zeros(640, 7, dtype=torch.int64, device=device)
        chosen = torch.gather(weight * 2, 1, places).sum() + (weight * 3).max(1)[0].sum()
        return chosen + (weight * 4).topk(3)[0].sum() + torch.take(weight * 5, places).sum()

    return _training(model, loss, device)


def operands_in_another_order(device: str) -> tuple[nn.Module, Callable[[], None]]:
    """Norms and softmax of what does not lie in the order of its dimensions, and so is copied first."""
    model = nn.ModuleList([nn.Conv1d(64, 64, 1, bias=False), nn.LayerNorm(64)])

    def loss() -> Tensor:
        x = model[0](torch.ones(64, 64, 400, device=device)).transpose(1, 2)
        return (model[1](x) + x.softmax(-1) + x.log_softmax(-1)).transpose(1, 2).contiguous().pow(2).mean()

    return _training(model, loss, device)


def _attention(
    precision: torch.dtype | None = None, *, size: int = 64, heads: int = 4, mask: bool = False, **options: Any
) -> Job:
    def job(device: str) -> tuple[nn.Module, Callable[[], None]]:
        model = nn.Linear(heads * size, 3 * heads * size)

        def loss() -> Tensor:
            mixed = model(torch.ones(2, 200, heads * size, device=device))
            query, key, value = mixed.view(2, 200, 3, heads, size).permute(2, 0, 3, 1, 4)
            allowed = torch.ones(2, 1, 200, 200, dtype=torch.bool, device=device) if mask else None
            attended = F.scaled_dot_product_attention(query, key, value, allowed, **options)
            return attended.transpose(1, 2).reshape(2, 200, heads * size).float().pow(2).mean()

        return _training(model, loss, device, precision)

    return job


def _recurrent(kind: type[nn.RNNBase], precision: torch.dtype | None = None, **options: Any) -> Job:
    def job(device: str) -> tuple[nn.Module, Callable[[], None]]:
        model = kind(128, 96, **options)
        x = torch.ones(4, 50, 128)
        return _training(model, lambda: model(x.to(device).clone())[0].float().pow(2).mean(), device, precision)

    return job


JOBS: dict[str, Job] = {
    "linear layers": linear_layers,
    "autocast": autocast_calls,
    "inference": inference,
    "indexing": indexing,
    "another order": operands_in_another_order,
    "attention fp32": _attention(),
    "attention fp32, large heads": _attention(size=128),
    "attention fp32, mask": _attention(mask=True),
    "attention fp32, odd heads": _attention(size=21, heads=8),
    "attention fp32, odd heads, dropout": _attention(size=21, heads=8, dropout_p=0.1),
    "attention bf16": _attention(HALF),
    "attention bf16, causal": _attention(HALF, is_causal=True),
    "attention bf16, dropout": _attention(HALF, dropout_p=0.1),
    "attention bf16, mask": _attention(HALF, mask=True),
    "LSTM": _recurrent(nn.LSTM, batch_first=True),
    "LSTM, three layers": _recurrent(nn.LSTM, num_layers=3, dropout=0.3),
    "LSTM, both directions, bf16": _recurrent(nn.LSTM, HALF, num_layers=2, bidirectional=True, batch_first=True),
}
