"""The conformance suite: the tables of the specification, run against every engine for QUEUE, CACHE and SYS CACHESTORE.

An engine joins by one row in `engines.py`.
"""
