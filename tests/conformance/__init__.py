"""The conformance suite: the tables of the specification, run against every engine that calls itself a `Store`.

An engine joins by one line in `engines.py`.
"""
