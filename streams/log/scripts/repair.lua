-- repair: begin a new epoch if the log holds none, or its newest events were lost. Returns the head.
register('repair', unless_deleted(function()
  return {'ok', digits(ensure_epoch())}
end))
