"""A world on a virtual clock in which autoscalers are compared, and in which the plan is put to the proof.

PURE but for `cli`: a scenario and a seed give the same run on every machine. `world` is the model, one step at a time;
`autoscalers` is what decides in it; `measure` judges a run; `sweep` makes many of them.
"""
