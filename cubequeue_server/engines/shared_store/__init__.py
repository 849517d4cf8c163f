"""N servers over one Valkey or Redis: the engine whose state is elsewhere (docs/shared-store.md).

SharedStore ──calls──▶ Links ──▶ Node: a primary ──▶ Connection: EVALSHA, those of one turn together
     ▲                   ▲
     │                   └── Topology: which primary has which shard (one node, Sentinel, Cluster)
  lua/*.lua: each script is one transition of one shard; `lua/head.lua` has the layout of the keys
"""
