"""A stand-in for libnvidia-ml.so.1 and hosts to put it on; see nvml.c for what it proves and what it does not."""
