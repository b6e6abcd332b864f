"""What a service shows of itself: logs, metrics, health."""
