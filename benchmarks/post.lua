-- wrk's side of `benchmarks.load`: what to send, and what came of it as one line of JSON.
wrk.method = 'POST'
wrk.headers['Content-Type'] = 'application/json'

function init(args)
    wrk.body = args[1]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%.6f,"median_ms":%.3f,"p99_ms":%.3f,"failed":%d,"broken":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
