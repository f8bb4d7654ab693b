-- Stops each thread of wrk after so many responses, so that no request is left half-way when the load ends.
-- The second argument is the pause before each request, in milliseconds.
local answered = 0
local limit
local pause

function init(args)
  limit = tonumber(args[1])
  pause = tonumber(args[2])
end

function delay()
  return pause
end

function response()
  answered = answered + 1
  if answered == limit then
    wrk.thread:stop()
  end
end
