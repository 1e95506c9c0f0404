"""Prompts and how a model's answers to them are scored: files that an export takes along, so they need no finesearch.

They import torch, transformers, numpy, one another and the few files of other folders that ``export_prompt`` names.

prompt_spec         what is asked and how
render_prompt       from questions and examples to the text before an answer
nearest_examples    the examples that share most words with a question
likelihood          the answer that the model finds likeliest     (causal models, encoder-decoders)
cloze               the answer that fills a gap best              (masked models)
similarity          the answer whose meaning is nearest           (encoders)
span_answers        the words of a context that answer            (encoders)
prompted_model      a model whose answers are chosen in one of these ways
prompted_generator  a model that writes its answers
read_export         an exported folder
"""
