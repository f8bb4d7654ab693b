-- Stops each thread of wrk after so many responses, so that no request is left half-way when the load ends.
local answered = 0
local limit

function init(args)
  limit = tonumber(args[1])
end

function response()
  answered = answered + 1
  if answered == limit then
    wrk.thread:stop()
  end
end
