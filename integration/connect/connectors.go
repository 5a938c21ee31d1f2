package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Put creates a connector, or gives it another configuration, and returns once its task runs.
func (w *Worker) Put(ctx context.Context, name string, config map[string]string) error {
	if err := w.call(ctx, "PUT", "connectors/"+url.PathEscape(name)+"/config", config, nil); err != nil {
		return fmt.Errorf("put connector %s: %w\n%s", name, err, w.logTail())
	}
	return w.AwaitRunning(ctx, name)
}

// Suspend stops the tasks of a connector and returns once they have ended. What they have read
// stays.
func (w *Worker) Suspend(ctx context.Context, name string) error {
	if err := w.call(ctx, "PUT", "connectors/"+url.PathEscape(name)+"/stop", nil, nil); err != nil {
		return fmt.Errorf("stop connector %s: %w", name, err)
	}
	return w.await(ctx, "connector "+name+" is stopped", func(ctx context.Context) (bool, error) {
		s, err := w.status(ctx, name)
		return s.Connector.State == "STOPPED" && len(s.Tasks) == 0, err
	})
}

// Resume starts the tasks of a connector that was suspended, and does not wait for them.
func (w *Worker) Resume(ctx context.Context, name string) error {
	if err := w.call(ctx, "PUT", "connectors/"+url.PathEscape(name)+"/resume", nil, nil); err != nil {
		return fmt.Errorf("resume connector %s: %w", name, err)
	}
	return nil
}

// Delete removes a connector and returns once it is gone.
func (w *Worker) Delete(ctx context.Context, name string) error {
	if err := w.call(ctx, "DELETE", "connectors/"+url.PathEscape(name), nil, nil); err != nil {
		return fmt.Errorf("delete connector %s: %w", name, err)
	}
	return w.await(ctx, "connector "+name+" is gone", func(ctx context.Context) (bool, error) {
		var names []string
		err := w.call(ctx, "GET", "connectors", nil, &names)
		return len(names) == 0, err
	})
}

// AwaitRunning returns once the connector and its task run. It is an error that one has failed.
func (w *Worker) AwaitRunning(ctx context.Context, name string) error {
	return w.await(ctx, "connector "+name+" runs", func(ctx context.Context) (bool, error) {
		s, err := w.status(ctx, name)
		if err != nil {
			return false, err
		}
		running := s.Connector.State == "RUNNING" && len(s.Tasks) > 0
		for _, t := range append(s.Tasks, s.Connector) {
			if t.State == "FAILED" {
				return false, fmt.Errorf("connector %s has failed: %s", name, t.Trace)
			}
			running = running && t.State == "RUNNING"
		}
		return running, nil
	})
}

// state is what Connect says of a connector or of one of its tasks.
type state struct {
	State string `json:"state"`
	Trace string `json:"trace"`
}

type status struct {
	Connector state   `json:"connector"`
	Tasks     []state `json:"tasks"`
}

// status is empty while Connect does not know the connector yet, or rebalances.
func (w *Worker) status(ctx context.Context, name string) (s status, err error) {
	err = w.call(ctx, "GET", "connectors/"+url.PathEscape(name)+"/status", nil, &s)
	if errors.Is(err, errNotNow) {
		return status{}, nil
	}
	return s, err
}

// errNotNow says that Connect rebalances, or does not know the connector yet.
var errNotNow = errors.New("not now")

// call is a call of the REST interface. into is filled from the answer, unless it is nil.
func (w *Worker) call(ctx context.Context, method, path string, body, into any) (err error) {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d/%s", w.port, path), bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch {
	case response.StatusCode == http.StatusConflict || response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s: %s", errNotNow, response.Status, answer)
	case response.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	case into == nil || len(answer) == 0:
		return nil
	}
	return json.Unmarshal(answer, into)
}
