"""The Ray that a search joins or starts: connection, token, control store."""
