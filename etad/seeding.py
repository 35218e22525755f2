"""Random streams named by what they are for.

Every draw that training makes for a video (proposals, snippets, loss masks, augmentation) comes from a generator whose
seed is a hash of (run seed, epoch, video, purpose). A draw therefore does not depend on the batch a video is in, on the
process that handles it, or on what was drawn before: resuming and splitting over processes repeat it exactly.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream_seed(*key: int | str) -> int:
    """Return a 63-bit seed for the stream named by ``key``."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(*key: int | str) -> "torch.Generator":
    """Return a CPU generator for the stream named by ``key``, e.g. ``stream(2023, epoch, "v_x", "proposals")``."""
    import torch  # whoever needs seeds only, to render videos for example, need not wait for it

    return torch.Generator().manual_seed(stream_seed(*key))
