-- Prints what wrk has counted as one line of JSON.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50.0) / 1e3, latency:percentile(99.0) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
