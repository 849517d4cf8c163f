"""The process that parses and evaluates SELECTs. Only here sqlglot and SQLite are imported.

serving       one SELECT after the other, within a limit of memory
source        text to text that sqlglot can read: literals, quoted names and parameters
queries       a SELECT to SQLite's SQL: tables, clauses, what is allowed
expressions   the same for expressions, with types
rules         the operators and functions there are
functions     those that SQLite does not have, and date arithmetic
evaluation    SQLite in memory, with every limit set
"""
