"""What an event costs: our proxy beside nginx, in one run, on the same cores.

Black box: nothing of the product is imported. See README.md for what is measured and how.
"""
