"""The pod host: many pods in one process, each with its own `Sidecar` service."""
