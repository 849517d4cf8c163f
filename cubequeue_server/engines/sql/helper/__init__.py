"""The process that parses and evaluates SELECTs. Only here sqlglot and SQLite are imported.

serving       one SELECT after the other, within a limit of memory
dialect       how sqlglot reads SELECTs: literals, parameters, types, names of columns
queries       a SELECT to a plan: the allowed parts, names, columns of large values
writer        the plan's SQL for SQLite
rules         the operators and functions there are
functions     those that SQLite does not have, and date arithmetic
evaluation    SQLite in memory, with every limit set
"""
