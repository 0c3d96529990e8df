-- Home-Assistant-like state changes: POST, 290 bytes of JSON, 10,000 keys, an id that is never used twice.
--
--   wrk -s events.lua URL -- RUN [SIZE]      RUN: 8 hex digits that no other run of this backend has had
--                                            SIZE: of the body, in bytes
--
-- The same bytes go to every proxy. The key stands in the body (json:/entity_id), where events have it, and in
-- X-Bench-Key for nginx, which cannot read a body. The id stands in the body alone (json:/context/id).

local KEYS = 10000
local format = string.format
local prefixes, middles = {}, {}
local run, size, count, key = "00000000", 290, 0, 0

local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  run = args[1] or run
  size = tonumber(args[2] or size)
  for i = 0, KEYS - 1 do
    local name = format("sensor.meter_%05d", i)
    local body = format('{"entity_id":"%s","state":"%05.2f","attributes":{"unit_of_measurement":"kWh","friendly_name":"Meter %05d",'
      .. '"device_class":"energy"},"last_changed":"2025-11-20T08:00:00.000000+00:00","context":{"parent_id":null,"user_id":null,"id":"',
      name, i % 100, i)
    local padding = size - #body - 26 - #'"},"pad":""}'
    prefixes[i] = format("POST /api/v1/events HTTP/1.1\r\nHost: bench.local\r\nContent-Type: application/json\r\n"
      .. "Content-Length: %d\r\nX-Bench-Key: %s\r\n\r\n", size, name) .. body .. format("01%s%04x", run, number)
    middles[i] = '"},"pad":"' .. string.rep("x", padding) .. '"}'
  end
end

function request()
  count = count + 1
  -- A stride that shares no factor with the number of keys visits all of them in an order no cache likes.
  key = (key + 7919) % KEYS
  return prefixes[key] .. format("%012x", count) .. middles[key]
end
