"""SQL outside QUEUE, CACHE and SYS CACHESTORE (commands.md §9): what Cube and MySQL clients ask besides.

engine           the way in: one statement to one result, now or later
shapes           the few SELECTs that come all the time, without a parser
fixed            SET, SHOW, start-up texts, schemas, and the refusals
tables           the tables that can be read, and DESCRIBE
evaluator        has all other SELECTs evaluated: limits, rows to and fro
helper_process   the process that does it, as the server sees it
frames           what the two say to each other
helper/          what runs in that process
"""
