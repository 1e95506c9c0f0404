"""The base model: finding it, loading it, and locating its embeddings, blocks and head."""
