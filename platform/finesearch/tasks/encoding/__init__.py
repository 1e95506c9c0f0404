"""Shared encoding code: text and list columns, text pairs, sliding windows, padding, BIO tags."""
