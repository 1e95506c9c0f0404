"""Ray cluster: nodes, devices, memory, and trial concurrency."""
