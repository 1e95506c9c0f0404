"""Prompt rendering and answer scoring. Exports include copies of these files, so they do not need finesearch.

They import torch, transformers, numpy, one another and the few files of other folders that ``export_prompt`` names.

prompt_spec         the prompt and its settings
render_prompt       from questions and examples to the prompt's text
nearest_examples    retrieval of the examples most similar to a question (TF-IDF)
likelihood          the candidate with the highest likelihood     (causal models, encoder-decoders)
cloze               the candidate that fills a gap best           (masked models)
similarity          the candidate with the nearest embedding      (encoders)
span_answers        the words of a context that answer            (encoders)
prompted_model      a model whose answers are chosen by one of these methods
prompted_generator  a model that generates its answers
read_export         reads an exported folder
"""
