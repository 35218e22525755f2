"""ETAD: end-to-end temporal action detection with sampled gradients (Liu et al., CVPR-W 2023, arXiv 2205.07134).

Imports nothing of bench.
"""

__version__ = "0.2.0"
