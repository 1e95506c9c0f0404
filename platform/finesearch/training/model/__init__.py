"""The base model: where it is found, how it is built, and what its parts are."""
