package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// customers place orders with the service and cancel some.
type customers struct{ shop string }

var names = []string{"ada", "barbara", "donald", "edsger", "grace", "john", "leslie", "tony"}

// await waits until the service takes orders.
func (c *customers) await(ctx context.Context) error {
	for {
		response, err := c.request(ctx, "/", nil)
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// place places so many orders, each tenth of which is cancelled at once.
func (c *customers) place(ctx context.Context, orders int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range orders {
		cancelled := i%10 == 9
		group.Go(func() error { return c.placeOne(ctx, cancelled) })
	}
	return group.Wait()
}

func (c *customers) placeOne(ctx context.Context, cancelled bool) error {
	wish, err := json.Marshal(map[string]any{"customer": names[rand.IntN(len(names))], "cents": 100 + rand.IntN(10_000)})
	if err != nil {
		return err
	}
	var placed struct {
		Order int64 `json:"order"`
	}
	if err := c.post(ctx, "/orders", wish, http.StatusCreated, &placed); err != nil || !cancelled {
		return err
	}
	return c.post(ctx, fmt.Sprintf("/orders/%d/cancel", placed.Order), nil, http.StatusOK, &placed)
}

func (c *customers) post(ctx context.Context, path string, body []byte, want int, answer any) error {
	response, err := c.request(ctx, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read only
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	if response.StatusCode != want {
		return fmt.Errorf("post %s: %s: %s", path, response.Status, text)
	}
	return json.Unmarshal(text, answer)
}

func (c *customers) request(ctx context.Context, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.shop+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
