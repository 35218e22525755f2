"""A training step of an LSTM that tags words.

etad-bench memory --step examples/steps/tagger.py:make_step --batch 32,64,128
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tagger(nn.Module):
    def __init__(self, words: int, width: int, tags: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * width, tags))

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(words))[0])


def make_step(batch: int = 32, length: int = 64, width: int = 256, words: int = 20000) -> Callable[[], None]:
    model = Tagger(words, width, 50).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    text = torch.randint(words, (batch, length), device="cuda")
    tags = torch.zeros(batch, length, dtype=torch.long, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(text).transpose(1, 2), tags).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step
