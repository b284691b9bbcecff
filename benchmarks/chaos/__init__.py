"""The five scenarios of a public chaos benchmark of queues, on the whole of Peakclip, and one more.

`rates.py` is pure: moments in, figures out. `scenarios.py` does the harm, with the means of the fault tests
(`tests/faults`); `measure.py` runs a stack, customers and scenarios, and asks the judges at the end.

The scenarios are those of https://github.com/hardbyte/postgresql-job-queue-benchmarking. Where ours differ they are
harder: it terminates backends that are in the middle of a statement, here every backend is; it holds 300 of 400
connections, here all of them, those of the workers too; it kills one of two workers, here both die at once. Its
phases last a minute, here some seconds: a queue that comes back late cannot make up for it.
"""
