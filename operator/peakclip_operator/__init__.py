"""The autoscaler: reads lag and telemetry, decides workers and rate, acts through ports.

`plan/` decides and is pure. `loop.py` drives it and knows four ports. Adapters to JetStream, processes and
Kubernetes live beside them and are put together in `main.py`.
"""
