"""The custom resource WorkerPool: what it may say, what it means to the plan, and what is said back.

Pure: pydantic, the standard library, the plan, and the words and numbers of the library. No clock, no network,
no client of Kubernetes: `peakclip_operator.kubernetes` brings what it reads and writes what comes out.

`model.py` is the one place for fields, bounds, defaults and descriptions. The definition that the API server
enforces is made from it (`make crd`), and the operator reads resources with it.
"""
