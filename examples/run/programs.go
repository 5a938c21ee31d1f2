package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/harness/child"
)

// programs are the binaries of the services and of the relay, built for this run.
type programs struct{ folder string }

const module = "github.com/outbox-relay/relay"

func build(ctx context.Context) (*programs, error) {
	folder, err := os.MkdirTemp("", "relay-examples-")
	if err != nil {
		return nil, err
	}
	p := &programs{folder}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", folder, module+"/cmd/relay", module+"/examples/orders", module+"/examples/billing")
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build the services: %w\n%s", err, output), p.close())
	}
	return p, nil
}

func (p *programs) close() error { return os.RemoveAll(p.folder) }

// command is a program with additions to the environment. What would configure a relay or a
// Postgres client otherwise is left out.
func (p *programs) command(environ []string, name string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.folder, name), arguments...)
	cmd.Env = append(child.Environ(os.Environ()), environ...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// migrate makes the tables: an outbox in both databases, an inbox in that of billing.
func (p *programs) migrate(ctx context.Context, s *site) error {
	for _, step := range []struct {
		databaseURL string
		arguments   []string
	}{{s.orders, []string{"migrate", "up"}}, {s.billing, []string{"migrate", "up"}}, {s.billing, []string{"inbox", "migrate", "up"}}} {
		cmd := p.command([]string{"RELAY_DATABASE_URL=" + step.databaseURL}, "relay", step.arguments...)
		cmd.Stdout = nil
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("relay %s: %w", strings.Join(step.arguments, " "), err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// services are the running processes.
type services struct {
	address  string // of orders
	commands map[string]func() *exec.Cmd
	running  map[string]*child.Child
}

// start runs both services and a relay for each.
func (p *programs) start(s *site) (*services, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	relay := func(databaseURL string) func() *exec.Cmd {
		return func() *exec.Cmd {
			return p.command([]string{
				"RELAY_DATABASE_URL=" + databaseURL, "RELAY_BROKERS=" + s.brokers, "RELAY_TOPICS_CREATE=true",
				"RELAY_ADMIN=off", "RELAY_LOG_LEVEL=error",
			}, "relay", "run")
		}
	}
	started := &services{address: address, running: map[string]*child.Child{}, commands: map[string]func() *exec.Cmd{
		"relay of orders":  relay(s.orders),
		"relay of billing": relay(s.billing),
		"orders": func() *exec.Cmd {
			return p.command([]string{"ORDERS_DATABASE_URL=" + s.orders, "ORDERS_LISTEN=" + address}, "orders")
		},
		"billing": func() *exec.Cmd {
			return p.command([]string{
				"BILLING_DATABASE_URL=" + s.billing, "BILLING_BROKERS=" + s.brokers, "BILLING_INSTANCE=billing-1",
			}, "billing")
		},
	}}
	for name := range started.commands {
		if err := started.launch(name); err != nil {
			return nil, errors.Join(err, started.stop())
		}
	}
	return started, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// launch starts a service, which dies with this process.
func (s *services) launch(name string) error {
	c, err := child.Start(name, s.commands[name](), "")
	if err == nil {
		s.running[name] = c
	}
	return err
}

// replace kills a service with SIGKILL and starts it again.
func (s *services) replace(name string) error {
	if err := s.running[name].Crash(); err != nil {
		return err
	}
	return s.launch(name)
}

// stop ends all of them in order.
func (s *services) stop() error {
	var stopping errgroup.Group
	for _, c := range s.running {
		stopping.Go(func() error { return c.Stop(context.Background()) })
	}
	return stopping.Wait()
}
