"""Ray cluster: connection, nodes, devices, tokens, and trial concurrency."""
