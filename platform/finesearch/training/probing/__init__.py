"""Linear probing: a head's output layer that is solved by scikit-learn from the frozen model's outputs, not trained.

output_layer       the linear layer whose outputs are the logits: found, left out, given weights
layer_cut          the base model cut after its k-th layer
probe_units        what has a feature vector and a label in each task, and predictions from features
feature_pass       one forward pass: the inputs of the output layer, for several layers at once
feature_store      … kept on disk, computed once a node for each set of features
linear_solver      logistic regression and ridge regression at one strength of regularization
strength_path      many strengths from one warm-started fit; validation picks
solutions          solved output layers, kept beside their features
run_probe_trial    one trial of linear_probe, from its parameters to its checkpoint
head_init          a solved output layer for a trial to start its training from
probe_space_check  whether a task and a model support the probes of a search space
"""
