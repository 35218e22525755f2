"""Prediction of a training step's GPU memory and time on a machine without it. Imports machine and torch_internals.

trace.py runs the real step on fake tensors and recorder.py writes down its allocations; device_rules.py says where CUDA
allocates differently (with cuda_calls.py, attention.py, cudnn_rnn.py, matrix_products.py and reductions.py) and
releases.py where a release of torch does; allocator.py replays the allocations through a simulated caching allocator;
memory.py puts them together. forecast.py scales the roofline's times by factors of measured GPUs, which
factor_fit.py fits.
"""
