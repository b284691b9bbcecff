"""One file per resource: unpack the request, make one call, pack the answer. `add_routes` registers it."""
