"""Anybody's weight files, read without running anybody's code.

`weights` tells formats apart by their content and reads each; `archives` compares a zip archive of torch byte
for byte; `pickles` and `pickle_audit` judge a pickle before `torch_files` hands it to torch; `wrappers` finds
the state dict in it, and `state_dicts` fits its names to a model's.
"""
