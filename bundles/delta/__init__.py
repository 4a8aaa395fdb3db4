"""Deltas: a medium that carries only what a site's store lacks.

A delta is an encoding for transport. The signed release stays the same, and every leaf that is
rebuilt is checked against it as always, so nothing here needs to be trusted: a wrong instruction,
a forged inventory or a damaged base leads to a refusal, never to wrong bytes.
"""
