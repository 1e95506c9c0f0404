"""A model that is asked and not trained, as a trial like any other: zero_shot and few_shot.

methods            which way of asking a model can take, and the model for it
prompt             what was asked as a file: everything that a checkpoint of such a trial holds
few_shot_examples  which examples of train are shown
scoring/           prompts and how a model's answers are scored; exports take these files along
score_split        a split's predictions where answers are chosen, by all processes together
generate_text      … where answers are written
generate_replies   … where conversations go on
run_prompt_trial   one trial from its plan to its checkpoint
"""

from finesearch.training.prompting.methods import check_prompting, trains

__all__ = ["check_prompting", "trains"]
