"""The pass-through: a CubeStore behind cubequeue gets every statement that is not for queue and cache.

    client socket ── Link ── Connection ── CubeStore       one of each a client (docs/upstream.md)

`routing` says what goes where, `link` knows what one client waits for, `blame` finds the statement that brings
connections down, `dialer` opens connections, `uploads` passes files through.
"""
