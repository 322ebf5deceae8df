-- What wrk sends: POST of a fixed body. Environment: BODY_FILE, AUTH (value of Authorization). At the end one JSON line, for measure.py.
local file = assert(io.open(os.getenv("BODY_FILE")))
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
if (os.getenv("AUTH") or "") ~= "" then wrk.headers["Authorization"] = os.getenv("AUTH") end

function done(sum, lat, rate)
	io.write(string.format(
		'JSON{"requests":%d,"secs":%.4f,"err":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},"p50":%d,"p90":%d,"p99":%d,"p999":%d,"max":%d}\n',
		sum.requests, sum.duration / 1e6, sum.errors.connect, sum.errors.read, sum.errors.write, sum.errors.status, sum.errors.timeout,
		lat:percentile(50), lat:percentile(90), lat:percentile(99), lat:percentile(99.9), lat.max))
end
