-- The counter of LFU as it stands now: one less for each whole decay time since the last use, and never below 0.
local function decayed(uses, used, decay)
  local idle = now - used
  if idle <= 0 or decay <= 0 then
    return uses
  end
  return math.max(uses - floor(idle / decay), 0)
end
