"""SQL outside QUEUE, CACHE and SYS CACHESTORE (commands.md §9): what Cube and MySQL clients ask besides.

engine      the way in: one statement to one result
shapes      the few SELECTs that come all the time, without a parser
fixed       SET, SHOW, start-up texts, schemas, and the refusals
source      text to text that sqlglot may see: quoting, literals and parameters settled, size and nesting bounded
compiler    a sqlglot SELECT to SQLite's SQL, nothing but what is listed let through
expressions, functions    the same for expressions
database    SQLite in memory, with every limit set
scalars     the functions it has not
table_database, table_selects    the same with the rows of the store's tables, beside the traffic of clients
times       date arithmetic, as SQL functions
tables      the tables that can be read
"""
