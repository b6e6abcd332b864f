"""What every service stands on: settings, lifecycle, gRPC balancing, logs and metrics.

Light on purpose: the sidecar imports it, once per pod.
"""
