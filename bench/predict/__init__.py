"""Prediction of a training step's GPU memory and time on a machine without that GPU. Imports records and below.

trace.py runs the real step on fake tensors and recorder.py writes down its allocations; device_rules.py and
cuda_calls.py say where CUDA allocates differently; allocator.py replays the allocations through a simulated caching
allocator; memory.py puts them together.
"""
