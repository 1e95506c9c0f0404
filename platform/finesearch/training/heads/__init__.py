"""Heads of our own: how token states become one vector for a text, and classes that transformers does not have."""
