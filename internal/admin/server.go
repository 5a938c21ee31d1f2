package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
)

// Config says what a Server serves. Every field is required.
type Config struct {
	// Metrics are served at /metrics.
	Metrics prometheus.Gatherer

	// Status returns the lanes of this process, none while it still starts. It must be safe for
	// concurrent use.
	Status func() []relay.LaneStatus

	// ReadyWithin is how long a lane may go without progress and still be ready.
	ReadyWithin time.Duration

	// Logger receives requests that fail.
	Logger *slog.Logger
}

// Handler returns the pages /, /livez, /readyz and /metrics. They answer to GET and HEAD only.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("GET /livez", live)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready(w, judge(cfg.Status(), cfg.ReadyWithin, time.Now()), cfg.Logger)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	}))
	return mux
}

func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>relay</title><h1>relay</h1><ul>
<li><a href="/metrics">/metrics</a>: metrics for Prometheus
<li><a href="/livez">/livez</a>: 200 while the process runs
<li><a href="/readyz">/readyz</a>: 200 while every lane of this process makes progress or is another's
</ul>
`)
}

func live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

func ready(w http.ResponseWriter, answer Readiness, logger *slog.Logger) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		logger.Debug("answer to /readyz not sent", "error", err)
	}
}

// Server is the HTTP server.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// ErrTaken is wrapped by the error of Listen where another process listens on the address.
var ErrTaken = errors.New("taken by another process")

// Listen opens address, HOST:PORT. The error has a hint if the address is taken.
func Listen(address string, cfg Config) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, hint.Wrap(fmt.Errorf("admin address %s is %w", address, ErrTaken),
			"--admin with another port (127.0.0.1:0 picks a free one), or --admin off")
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("open admin address %s: %w", address, err),
			"--admin HOST:PORT with an address of this machine, or --admin off")
	}
	return &Server{listener: listener, http: &http.Server{
		Handler:           Handler(cfg),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}}, nil
}

// Address returns the address that is served, with the port that was picked.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers requests until ctx is cancelled, then lets those in flight end, for one second at
// most. It returns nil after a cancellation.
func (s *Server) Serve(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		// Open connections are cut, because the process is about to end.
		err = s.http.Close()
		return errors.Join(err, ended(<-served))
	}
	return ended(<-served)
}

// ended drops the error by which a server says that it was told to end.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
