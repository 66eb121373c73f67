-- For wrk: GET the paths of a file in turn, and print the counts as JSON. Arguments: the file, the Accept header.
local requests, at = {}, 0

function init(arguments)
  for path in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", path, { Accept = arguments[2], Host = "bench" })
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary)
  local errors = summary.errors
  local bad = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('RESULT {"requests": %d, "bytes": %d, "seconds": %f, "bad": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, bad))
end
