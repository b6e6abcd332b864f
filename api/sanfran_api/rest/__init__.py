"""REST at /api/v1: `app` has the routes, `guard` what holds for every request, `server` the socket."""
