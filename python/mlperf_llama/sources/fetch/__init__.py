"""Downloads, each with a stall limit, a checksum and a plain reason when it cannot.

`http` one file, `r2` a folder of the MLCommons store, `mlcr` MLCommons' own command,
`hub` a repository of the Hugging Face hub, `wheel` files out of a locked wheel,
`child` the watched process that the last three run in.
"""
