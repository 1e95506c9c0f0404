"""Columns and tokens that several tasks share: texts, lists, windows, padding, BIO tags."""
