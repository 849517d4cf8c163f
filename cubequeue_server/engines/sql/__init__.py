"""SQL outside QUEUE, CACHE and SYS CACHESTORE (commands.md §9): what Cube and MySQL clients ask besides.

engine           the engine: one statement to one result, now or later
fixed            statements that need no parser, and the refusals
tables           the tables that can be read
evaluator        evaluates all other SELECTs in one process: limits, rows to it and from it
helper_process   that process, as the server sees it
frames           the protocol between the two
helper/          the code of that process
"""
