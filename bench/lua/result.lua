-- QUEUE RESULT by path: KEYS prefix; ARGV key. Answers the value once.
return redis.call('GETDEL', KEYS[1] .. ':result:' .. ARGV[1])
