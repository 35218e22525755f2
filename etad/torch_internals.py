"""Names of torch without a promise of stability. What is missing in a release of torch is None here."""

from collections.abc import Callable

import torch
from torch import Tensor

LinearPointwise = Callable[[Tensor, Tensor, Tensor | None, str, list[float], str], Tensor]

linear_pointwise: LinearPointwise | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""oneDNN's product with a function applied to it: (x, weight, bias, name of the function, its arguments, algorithm).

torch's compiler uses it; the default of a linear layer does not. ``[..., in]``, ``[out, in]`` and ``[out]`` give
``[..., out]``, all float32 on a CPU.
"""
