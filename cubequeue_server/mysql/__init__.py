"""The MySQL port (mysql.md): the statements of the WebSocket, for administrators' tools.

listener        admits clients; the modules below are imported with the first of them, except `stream`
connection      one client: commands to answers
authentication  the exchange that proves a password
statements      texts and prepared statements
stream          packets on the socket, and its beginning, before it is known whether TLS follows
"""
