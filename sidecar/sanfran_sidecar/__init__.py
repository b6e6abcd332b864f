"""The sidecar of a pod: loads a function's code into its Node process on demand, and ends it."""
