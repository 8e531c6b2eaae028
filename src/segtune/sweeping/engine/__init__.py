"""The engine of a search: a shared study, whose trials workers pull under leases.

The engine knows nothing of segmentation: it imports no other room but `runtime` and `errors`.
"""
