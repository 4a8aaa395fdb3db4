"""The format of a Leeward bundle and its trust.

This package is a leaf: it knows nothing of the appliance, so that a security reviewer can read it
alone and an auditor's laptop can install it alone.
"""
