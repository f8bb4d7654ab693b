-- A scanner: random methods, paths of random words and ids, query strings, and what status the application shall give.
-- Each connection, one per thread, asks for DEPTH at a time; it ends when so many seconds are over, with no request
-- left half-way.
local DEPTH = 16
local methods = {"GET", "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "BREW", "TRACK"}
local statuses = {404, 404, 404, 404, 404, 404, 404, 200, 200, 201, 204, 301, 304, 400, 401, 403, 405, 410, 500, 503}
local threads = 0
local verified = false
local answered = 0
local over

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  math.randomseed(tonumber(args[1]) + number)
  over = os.time() + tonumber(args[2])
end

local words = {}

local function word()
  if #words == 5000 then
    return words[math.random(5000)]
  end
  local letters = {}
  for i = 1, math.random(1, 12) do
    letters[i] = string.char(math.random(97, 122))
  end
  words[#words + 1] = table.concat(letters)
  return words[#words]
end

local function segment()
  local kind = math.random(5)
  if kind == 1 then
    return tostring(math.random(1, 1000000))
  elseif kind == 2 then
    return string.format("%08x-%04x-%04x-%04x-%08x%04x", math.random(0, 2147483647), math.random(0, 65535),
      math.random(0, 65535), math.random(0, 65535), math.random(0, 2147483647), math.random(0, 65535))
  end
  return word()
end

local function path()
  local segments = {}
  for i = 1, math.random(1, math.random(20) == 1 and 20 or 5) do
    segments[i] = segment()
  end
  return "/" .. table.concat(segments, "/")
end

function request()
  local many = {}
  for i = 1, DEPTH do
    local status = statuses[math.random(#statuses)]
    local method = verified and methods[math.random(#methods)] or "GET"
    many[i] = method .. " " .. path() .. "?" .. word() .. "=" .. word()
      .. " HTTP/1.1\r\nHost: x\r\nX-Status: " .. status .. "\r\n\r\n"
  end
  verified = true -- wrk knows not all of these methods, and has a look at the first requests
  return table.concat(many)
end

function response()
  answered = answered + 1
  if answered % DEPTH == 0 and os.time() >= over then
    wrk.thread:stop()
  end
end
