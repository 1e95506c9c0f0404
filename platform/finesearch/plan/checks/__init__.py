"""Checks of a whole plan: options that exclude each other, options without effect, secrets."""
