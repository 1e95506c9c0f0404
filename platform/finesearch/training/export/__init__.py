"""Export: a checkpoint as a folder that transformers or peft loads without finesearch."""
