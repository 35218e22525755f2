"""Prediction of a training step's GPU memory and time on a machine without it. Imports machine and torch_internals.

trace.py runs the real step on fake tensors and recorder.py writes down its allocations; device_rules.py and
cuda_calls.py say where CUDA allocates differently; allocator.py replays the allocations through a simulated caching
allocator; memory.py puts them together. forecast.py scales the roofline's times by factors of measured GPUs, which
factor_fit.py fits.
"""
