"""The controller: warm pool, activation, scaling, recycling, and what routers are told."""
