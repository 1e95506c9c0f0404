"""Tasks with one answer per text: classification, multi-label classification, regression, relation extraction."""
