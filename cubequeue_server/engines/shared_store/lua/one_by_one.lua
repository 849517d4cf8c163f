-- For scripts that keep the answers of several requests: they set these ahead of each.
local mid, u0, u1 = '', nil, nil
