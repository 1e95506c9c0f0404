"""Prompting trials (zero_shot and few_shot): a model is prompted and not trained, in a trial like any other.

methods             which prompting methods a model supports, and loading the model for one
prompt              prompt.json: the whole content of such a trial's checkpoint
few_shot_examples   which training examples the prompt shows
scoring/            rendering prompts and scoring answers; these files are copied into exports
score_split         predictions for a split where answers are chosen, computed by all processes together
generate_text       … where answers are generated
generate_replies    … where conversations are continued
prompt_space_check  whether a model supports the prompts of a search space
run_prompt_trial    one trial from its parameters to its checkpoint
"""

from finesearch.training.prompting.methods import check_prompting, is_prompted

__all__ = ["check_prompting", "is_prompted"]
