"""Readers, one per source and file format: CSV, JSON, Parquet, Arrow, saved datasets, Hugging Face hub."""
