"""Prediction of a training step's GPU memory on a machine without a GPU.

trace.py runs the real step on fake tensors and writes down its allocations; device_rules.py says where CUDA allocates
differently; allocator.py replays the allocations through a simulated caching allocator; memory.py puts them together.
"""
