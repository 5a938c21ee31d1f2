package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(lanes ...relay.LaneStatus) Config {
	return Config{
		Metrics:     prometheus.NewRegistry(),
		Status:      func() []relay.LaneStatus { return lanes },
		ReadyWithin: 30 * time.Second,
		Logger:      slog.New(slog.DiscardHandler),
	}
}

func get(t *testing.T, handler http.Handler, method, path string) (int, string) {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
	return answer.Code, answer.Body.String()
}

func TestReadinessIsProgress(t *testing.T) {
	now := time.Unix(10_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	tests := map[string]struct {
		lanes  []relay.LaneStatus
		reason string // of the last lane; "" if the process is ready
		remark string
	}{
		"another process runs the lane": {
			lanes: []relay.LaneStatus{{State: relay.Standby}}},
		"standby after an hour of work long ago": {
			lanes: []relay.LaneStatus{{State: relay.Standby, Progress: ago(time.Hour)}}},
		"running and progressing": {
			lanes: []relay.LaneStatus{{State: relay.Running, Progress: ago(time.Second)}}},
		"running without a topic that is unavailable": {
			lanes:  []relay.LaneStatus{{State: relay.Running, Reason: "topic late is unavailable", Progress: ago(time.Second)}},
			remark: "topic late is unavailable"},
		"stuck, and with something to say": {
			lanes:  []relay.LaneStatus{{State: relay.Running, Reason: "table outbox is locked", Progress: ago(time.Minute)}},
			reason: "no progress for 1m0s: table outbox is locked"},
		"running and stuck": {
			lanes:  []relay.LaneStatus{{State: relay.Running, Progress: ago(42 * time.Second)}},
			reason: "no progress for 42s"},
		"running, nothing read so far": {
			lanes:  []relay.LaneStatus{{State: relay.Running}},
			reason: "no progress yet"},
		"waiting since a moment ago": {
			lanes:  []relay.LaneStatus{{State: relay.Waiting, Reason: "no broker", Progress: ago(3 * time.Second)}},
			remark: "no broker"},
		"waiting for too long": {
			lanes:  []relay.LaneStatus{{State: relay.Waiting, Reason: "no broker", Progress: ago(31 * time.Second)}},
			reason: "waiting: no broker"},
		"taking over for the first time": {
			lanes:  []relay.LaneStatus{{State: relay.TakingOver, Since: ago(4 * time.Second)}},
			reason: "taking over for 4s"},
		"halted, however recent its progress": {
			lanes:  []relay.LaneStatus{{State: relay.Halted, Reason: "restored database", Progress: now}},
			reason: "halted: restored database"},
		"one of two lanes stuck": {
			lanes: []relay.LaneStatus{{State: relay.Running, Progress: now},
				{State: relay.Running, Progress: ago(time.Minute)}},
			reason: "no progress for 1m0s"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := judge(test.lanes, 30*time.Second, now)
			if got.Ready != (test.reason == "") {
				t.Errorf("ready is %v", got.Ready)
			}
			if last := got.Lanes[len(got.Lanes)-1]; last.Reason != test.reason || last.Remark != test.remark {
				t.Errorf("the reason is %q, want %q; the remark %q, want %q", last.Reason, test.reason, last.Remark, test.remark)
			}
		})
	}
}

func TestReadyzNamesTheLaneAndTheReason(t *testing.T) {
	handler := Handler(config(
		relay.LaneStatus{Lane: "outbox", State: relay.Running, Progress: time.Now()},
		relay.LaneStatus{Lane: "billing", State: relay.Halted, Reason: "the checkpoint topic is gone"},
	))
	code, body := get(t, handler, http.MethodGet, "/readyz")
	var got Readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := LaneReadiness{Lane: "billing", State: relay.Halted, Reason: "halted: the checkpoint topic is gone"}
	if code != http.StatusServiceUnavailable || got.Ready || got.Lanes[1] != want {
		t.Errorf("got %d %s", code, body)
	}
}

func TestReadyzSaysThatTheProcessStarts(t *testing.T) {
	code, body := get(t, Handler(config()), http.MethodGet, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("got %d %s", code, body)
	}
}

func TestPages(t *testing.T) {
	stuck := Handler(config(relay.LaneStatus{Lane: "outbox", State: relay.Halted}))
	tests := []struct {
		method, path string
		code         int
		holds        string
	}{
		{http.MethodGet, "/", 200, "/readyz"},
		{http.MethodGet, "/livez", 200, "ok"},
		{http.MethodHead, "/livez", 200, ""},
		{http.MethodGet, "/metrics", 200, ""},
		{http.MethodGet, "/elsewhere", 404, ""},
		{http.MethodPost, "/readyz", 405, ""},
		{http.MethodDelete, "/", 405, ""},
	}
	for _, test := range tests {
		code, body := get(t, stuck, test.method, test.path)
		if code != test.code || !strings.Contains(body, test.holds) {
			t.Errorf("%s %s: got %d %q, want %d", test.method, test.path, code, body, test.code)
		}
	}
}

// A client that reaches the address can read, and nothing else: no page answers to a method that
// could change something, and nothing is there but the pages.
func TestNothingCanBeChangedThroughTheServer(t *testing.T) {
	handler := Handler(config(relay.LaneStatus{Lane: "outbox", State: relay.Running, Progress: time.Now()}))
	pages := []string{"/", "/livez", "/readyz", "/metrics"}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
		http.MethodTrace, http.MethodConnect, "PROPFIND", "FLUSH"} {
		for _, path := range pages {
			if code, body := get(t, handler, method, path); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: got %d %q", method, path, code, body)
			}
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		for _, path := range []string{
			"/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/vars", "/debug/requests",
			"/quit", "/-/reload", "/-/quit", "/config", "/status", "/lanes", "/parked", "/recover", "/livez/", "/metrics/anything", "/index.html",
		} {
			if code, body := get(t, handler, method, path); code != http.StatusNotFound {
				t.Errorf("%s %s: got %d %q", method, path, code, body)
			}
		}
	}
	for _, path := range pages {
		if code, _ := get(t, handler, http.MethodGet, path); code != http.StatusOK {
			t.Errorf("GET %s: got %d", path, code)
		}
	}
}

func TestServeUntilCancelled(t *testing.T) {
	server, err := Listen("127.0.0.1:0", config(relay.LaneStatus{State: relay.Standby}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + server.Address() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Errorf("got %s", answer.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestATakenAddressIsAnErrorWithAHint(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Listen(taken.Addr().String(), config())
	if err == nil || !strings.Contains(err.Error(), "taken") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
}
