"""What Peakclip's design is worth: accepting and draining, side by side with other designs, in one interleaved run.

`stats.py`, `chart.py` and `tables.py` are pure; `environment.py` starts real servers; `accept.py`, `drain.py` and
`profile_accept.py` measure. Nothing of Peakclip imports anything from here, and no test asserts a speed.
"""
