"""The same experiment for fake tensors: nothing in it needs a value, and its memory is the same."""

from bench.predict.device_rules import Rules
from etad.config import Config
from etad.models.roi_align import choose_form
from etad.sampling.proposals import dense_grid, proposal_count


def value_free(config: Config) -> Config:
    """Return the experiment with the same memory, but with samplers that need no values, and no weight file.

    Nor is it compiled, which fake tensors cannot be.
    """
    proposals = proposal_count(config)
    total = len(dense_grid(config.data.length, config.model.detector.max_duration))
    step = config.step.model_copy(
        update={
            "proposal_sampler": "random",
            # Half a proposal more, so that rounding down gives the number again.
            "proposal_ratio": 1.0 if proposals == total else (proposals + 0.5) / total,
            "snippet_sampler": "random",
        }
    )
    encoder = config.model.encoder.model_copy(update={"weights": None})
    model = config.model.model_copy(update={"encoder": encoder})
    efficiency = config.efficiency.model_copy(update={"compile": False, "cuda_graphs": False})
    return config.model_copy(update={"step": step, "model": model, "efficiency": efficiency})


def with_chosen_form(config: Config, rules: Rules, proposals: int) -> Config:
    """Return the experiment with the form of RoIAlign that ``auto`` takes on the device, not on the tracing CPU."""
    device_type = "cpu" if rules.name == "cpu" else "cuda"
    form = choose_form(config.efficiency.roi_align, device_type, proposals, config.data.length)
    return config.model_copy(update={"efficiency": config.efficiency.model_copy(update={"roi_align": form})})
