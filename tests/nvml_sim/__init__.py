"""A libnvidia-ml.so.1 without a GPU, for unmodified NVML programs, and the hand that steers it."""
