-- Make wrk post one file again and again and print the result as one line of JSON.
local file = assert(io.open(os.getenv("SERVING_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()

if os.getenv("SERVING_NEW_HEADS") == "1" then
  local number = 0
  function request()
    number = number + 1
    wrk.headers["X-Number"] = number
    return wrk.format()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "mean": %.1f, "p50": %d, "p99": %d, "status": %d, "socket": %d}\n',
    summary.requests, summary.duration, latency.mean, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
