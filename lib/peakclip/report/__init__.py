"""What a run was like: figures, words and a plot.

`rates`, `words` and `plot` are pure; `report` also has the two functions that ask the servers. Figures
come from the client and from the database's timestamps, never from what the system claims of itself.
"""
