"""Whether a database holds what the log promises.

`database` is the whole check. `blocks` is its one pass over all blocks, which begins from what
`base` finds of pruned ones. `findings` has what is found, and how rows are compared.
"""
