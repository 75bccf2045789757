-- delete: the conversation is deleted, so the log refuses every later call.
register('delete', unless_deleted(function()
  clear()
  redis.call('HSET', state, 'deleted', 1)
  redis.call('EXPIRE', state, state_ttl())
  redis.call('PUBLISH', channel, '')
  return {'ok'}
end), 'allow-oom')
