"""The global rate limiter: windowed counter tickets on one slot grid, exact over all workers.

`grid`, `pace`, `cursor`, `clock` and `sliding` decide and are pure (the reading and writing of the pace
stand at the end of `pace`); `limiter` does the talking. Nothing here knows orders, PostgreSQL or a unit.
"""
