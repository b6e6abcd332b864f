"""gRPC between the services: addresses, client-side balancing, servers with health."""
