"""Calibration and a worker on a real GPU, against a server that really allocates: `python -m benchmarks.gpu`.

The model is of random weights (`model`), and is served with continuous batching (`engine`), so that memory and throughput
are those of an inference server, whatever it says. It takes PyTorch with CUDA, which no requirement of ours names.
"""
