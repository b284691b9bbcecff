"""The edges of the operator on Kubernetes: the API server, the lease, what kopf watches, one task per WorkerPool.

May import everything of the operator and, alone in the project, kopf and kubernetes. Decides nothing: the wish is
read in `resource`, the number of workers comes from `plan`. Writes `/scale`, `/status`, the deletion cost of pods,
Events and its Lease, and nothing else.
"""
