-- QUEUE GET: KEYS prefix; ARGV key. Answers payload and extra.
return redis.call('HMGET', KEYS[1] .. ':item:' .. ARGV[1], 'payload', 'extra')
