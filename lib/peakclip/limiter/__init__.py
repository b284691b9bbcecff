"""The global rate limiter: windowed counter tickets on one slot grid, exact over all workers."""
