"""A model that is asked and not trained, as a trial like any other: zero_shot and few_shot.

methods     which way of asking a model can take, and the model for it
prompt      what was asked and how: everything that a checkpoint of such a trial holds
wording     from questions and examples to the text before an answer
likelihood  the answer that the model finds likeliest     (causal models, encoder-decoders)
cloze       the answer that fills a gap best              (masked models)
similarity  the answer whose meaning is nearest           (encoders)
comparing   the cosine of two texts                        (encoders)
writing     the answer that the model writes              (causal models, encoder-decoders)
examples    which examples of train are shown
answering   a split's predictions, by all processes together
attempt     one trial from its plan to its checkpoint
exported    a folder that answers with plain transformers
ask         the script in that folder; knows nothing of us
"""

from finesearch.training.prompting.methods import check_prompting, trains

__all__ = ["check_prompting", "trains"]
