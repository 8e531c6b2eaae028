"""`segtune ui`: pages over a store. They show what other rooms compute, and write nothing."""
