"""A checkpoint as a folder that plain transformers or peft loads."""
