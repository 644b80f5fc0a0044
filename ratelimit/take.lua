-- Counts one request in all of KEYS, or in none where one has no room.
-- ARGV: the time in microseconds, or 0 for the server's own, which all gateways
-- share; then for each key: limit, requests (0: a quota), cost in credits or the
-- quota's end in milliseconds.
-- Answers: the time, 1 if counted, and for each key what it held before.
-- A value that is not ours counts as none, so that it spoils no other counter;
-- one that we may not read is a failure, or nothing would ever be counted.
local exact = 9007199254740991 -- what Lua's numbers hold
local function held(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err and not value.err:find('WRONGTYPE', 1, true) then error(value.err) end
  if type(value) ~= 'string' then return 0, 0 end
  local a, b = value:match('^(%d+) (%d+)$')
  if not a or #a > 16 or #b > 16 then return 0, 0 end
  a, b = tonumber(a), tonumber(b)
  if a > exact or b > exact then return 0, 0 end
  return a, b
end
local hour = 3600000000
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
local answer, kept, room = {string.format('%.0f', now), 1}, {}, 1
for i, key in ipairs(KEYS) do
  local limit, requests, cost = tonumber(ARGV[i * 3 - 1]), tonumber(ARGV[i * 3]), tonumber(ARGV[i * 3 + 1])
  local a, b = held(key)
  if requests == 0 then
    if a >= limit then room = 0 end
  else
    if b > now + hour then a, b = 0, 0 end -- no clock is set back that far
    a = math.max(0, math.min(a, limit * cost) - math.max(0, now - b) * requests)
    b = math.max(b, now)
    if a + cost > limit * cost then room = 0 end
  end
  kept[i] = {a, b}
  answer[i + 2] = string.format('%.0f', a)
end
answer[2] = room
if room == 0 then return answer end
for i, key in ipairs(KEYS) do
  local limit, requests, cost = tonumber(ARGV[i * 3 - 1]), tonumber(ARGV[i * 3]), tonumber(ARGV[i * 3 + 1])
  local a, b = kept[i][1], kept[i][2]
  if requests == 0 then
    redis.call('SET', key, string.format('%.0f %.0f', a + 1, limit), 'PXAT', string.format('%.0f', cost))
  else
    local level = a + cost
    redis.call('SET', key, string.format('%.0f %.0f', level, b), 'PX', string.format('%.0f', math.ceil(level / requests / 1000) + 1000))
  end
end
return answer
