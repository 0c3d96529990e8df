"""What an event costs: our proxy beside nginx, in one run, on the same cores.

Black box: of the product only the load's own tools are imported, the generator of `proxyctl load` and the reader of
frames. See README.md for what is measured and how.
"""
