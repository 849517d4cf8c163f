"""The MySQL port (mysql.md): the same statements as on the WebSocket, for the tools of administrators.

listener        accepts clients; nothing heavier is imported before the first of them
connection      one client: commands to answers
authentication  who it is
statements      texts and prepared statements
opening         the bytes before it is known whether TLS follows
stream          packets on the socket
"""
