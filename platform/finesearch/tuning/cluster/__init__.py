"""Ray: connection, nodes, devices, tokens, and how many trials run at once."""
