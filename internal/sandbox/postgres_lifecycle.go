package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/process"
)

// startPoll is the pause between two tries to reach a server that is starting.
const startPoll = 20 * time.Millisecond

// stopTimeout is how long a server may take to stop in order before it is killed.
const stopTimeout = 20 * time.Second

// Stop ends the server and removes its folder. The server cannot be restarted after that. A second
// call does nothing.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.shutDown(syscall.SIGQUIT) // the data is not read again: no checkpoint
	return errors.Join(err, p.folder.Remove())
}

// ShutDown stops the server in order, with a checkpoint, and keeps its data for Restart. Sessions
// are ended.
func (p *Postgres) ShutDown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shutDown(syscall.SIGINT)
}

// Kill ends every process of the server at once with SIGKILL, as a crash does. The data is kept for
// Restart.
func (p *Postgres) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill()
}

// Restart starts a server again that was killed or shut down, on the same data and port, and
// returns once it answers. A server that runs is shut down first.
func (p *Postgres) Restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.shutDown(syscall.SIGINT); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	if err := p.start(ctx); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	return nil
}

// shutDown sends the postmaster the signal for one of its ways to shut down, and kills it if it
// takes too long.
func (p *Postgres) shutDown(how syscall.Signal) error {
	if p.server == nil {
		return nil
	}
	if err := p.server.Signal(how); err != nil {
		return err
	}
	select {
	case <-p.server.Done():
		return p.removeShared()
	case <-time.After(stopTimeout):
		return p.kill()
	}
}

func (p *Postgres) kill() error {
	if p.server == nil {
		return nil
	}
	return errors.Join(killFamily(p.server), p.removeShared())
}

// start runs the server on p.port and waits until it answers.
func (p *Postgres) start(ctx context.Context) error {
	if _, err := os.Stat(p.dataFolder()); err != nil {
		return fmt.Errorf("find the data of the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.options.StartTimeout)
	defer cancel()
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }() // written by the child only
	// On SIGQUIT the postmaster ends all its children and its shared memory; SIGKILL would leave
	// those.
	server, err := process.Start(p.command(log, "postgres", p.arguments()...), syscall.SIGQUIT)
	if err != nil {
		return err
	}
	p.server = server
	for {
		err := p.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-server.Done():
			return fmt.Errorf("the server ended with status %d\n%s", server.ExitCode(), p.logTail())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the server does not answer: %w: %w\n%s", ctx.Err(), err, p.logTail()), p.kill())
		case <-time.After(startPoll):
		}
	}
}

func (p *Postgres) arguments() []string {
	settings := map[string]string{
		"listen_addresses": "127.0.0.1",
		"port":             strconv.Itoa(p.port),
		// A socket would need a short path that the owner may write to; TCP serves.
		"unix_socket_directories": "",
		// In the data folder, so that a killed server leaves nothing in /dev/shm.
		"dynamic_shared_memory_type": "mmap",
		"logging_collector":          "off",
		"log_destination":            "stderr",
	}
	if p.options.Certificate != nil {
		settings["ssl"] = "on"
	}
	for name, value := range p.options.Parameters {
		settings[name] = value
	}
	args := []string{"-D", p.dataFolder()}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

func (p *Postgres) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

func (p *Postgres) dataFolder() string { return filepath.Join(p.folder.Path, "data") }

func (p *Postgres) logFile() string { return filepath.Join(p.folder.Path, "server.log") }

// portWasTaken reports whether the last start failed because something else listens on the port.
func (p *Postgres) portWasTaken() bool {
	log, err := os.ReadFile(p.logFile())
	return err == nil && bytes.Contains(log, []byte("Address already in use"))
}

// logTail is the end of the server's log, for an error.
func (p *Postgres) logTail() string {
	const most = 20
	log, err := os.ReadFile(p.logFile())
	if err != nil {
		return fmt.Sprintf("(the server's log cannot be read: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return "the end of the server's log:\n  " + strings.Join(lines[max(0, len(lines)-most):], "\n  ")
}
