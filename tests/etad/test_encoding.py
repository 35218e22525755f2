"""The encoder's two passes: the same features for a step and for inference, and the gradient of what was drawn."""

import pytest
import torch
from torch import Tensor

from etad.config import Config
from etad.encoding import Encoding, TrainedEncoding
from etad.models.etad import Etad
from tests.etad.test_efficiency import TINY, formed
from tests.etad.test_step import SNIPPETS, batch_of, tiny

CHANNELS = 32
"""Of the tiny encoder's features."""


def model_of(config: Config) -> Etad:
    torch.manual_seed(0)
    return Etad(config, classes=2).train()


@pytest.mark.parametrize("chunk", [1, 3, SNIPPETS])
def test_chunks_give_the_features_of_each_snippet(chunk: int) -> None:
    config = tiny(chunk=chunk)
    model, frames = model_of(config), batch_of(config).input_
    features = Encoding(model, config).features(frames)
    assert (features.shape, features.dtype) == ((2, CHANNELS, SNIPPETS), torch.float32)
    assert not features.requires_grad
    assert model.feature_extractor is not None
    for video in range(2):
        for snippet in range(SNIPPETS):
            alone = model.feature_extractor(frames[video, snippet, None])[0]
            torch.testing.assert_close(features[video, :, snippet], alone)


def test_features_as_input_come_out_as_they_are() -> None:
    config = tiny()
    config = config.model_copy(update={"data": config.data.model_copy(update={"input": "features"})})
    features = torch.randn(2, config.data.channels, SNIPPETS)
    encoding = TrainedEncoding(model_of(config), config)
    assert encoding.features(features) is features
    assert not encoding.is_trained


def test_the_pass_with_a_graph_has_the_features_of_the_pass_without() -> None:
    config = tiny(strategy="checkpointed", chunk=3)
    frames = batch_of(config).input_
    encoding = TrainedEncoding(model_of(config), config)
    with_graph = encoding.recomputable_features(frames)
    assert with_graph.requires_grad
    assert torch.equal(with_graph.detach(), encoding.features(frames))


@pytest.mark.parametrize("form", ["recomputed", "kept", "offloaded"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("chunk", [2, 3])
def test_only_drawn_snippets_give_a_gradient_whatever_is_kept(form: str, late: bool, chunk: int) -> None:
    config = formed(tiny(encoder=TINY, snippet_ratio=0.5), frozen_prefix=form)
    frames, drawn = batch_of(config).input_, torch.tensor([[1, 5, 2, 7], [6, 0, 3, 4]])
    gradient = torch.randn(2, CHANNELS, SNIPPETS)

    def draw(features: Tensor, _: Tensor) -> Tensor:
        assert features.shape == (2, 0, SNIPPETS)
        return drawn

    encoding = TrainedEncoding(model_of(config), config, draws_late=late)
    prefix = encoding.plan(frames, 4, draw)
    assert (prefix is None) == (form == "recomputed")
    if prefix is not None:
        assert (prefix.drawn is None) == late
    encoding.features(frames, prefix)
    encoding.backpropagate(frames, gradient, drawn, chunk, prefix)

    plain = model_of(config).feature_extractor
    assert plain is not None
    of_all = plain(frames.flatten(0, 1)).unflatten(0, (2, SNIPPETS)).transpose(1, 2)
    mask = torch.zeros(2, 1, SNIPPETS).scatter_(2, drawn[:, None], 1.0)
    of_all.backward(gradient * mask)
    assert encoding.encoder is not None
    for (name, parameter), expected in zip(encoding.encoder.named_parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None), name
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_where_nothing_is_drawn() -> None:
    config = formed(tiny(encoder=TINY, snippet_ratio=0.5), frozen_prefix="kept")
    encoding = TrainedEncoding(model_of(config), config)
    assert encoding.plan(batch_of(config).input_, 0, lambda *_: pytest.fail("a draw of nothing")) is None
