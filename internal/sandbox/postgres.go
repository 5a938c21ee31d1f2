package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/process"
	"github.com/outbox-relay/relay/internal/scratch"
)

// superuser is the role that a sandbox's URL logs in as.
const superuser = "postgres"

// folderPrefix begins the name of every server's folder.
const folderPrefix = "relay-postgres-"

// PostgresOptions says what server StartPostgres starts. The zero value works.
type PostgresOptions struct {
	// Version demands a major version, "14" to "18". It is fetched on first use and cached, whatever
	// is installed. Defaults to the newest installed server of version 14 or later; where none is, 18
	// is fetched.
	Version string

	// Parameters are server settings, such as max_connections, as they would be in postgresql.conf.
	// They win over the sandbox's own. Defaults to none: Postgres's defaults, with fsync on.
	Parameters map[string]string

	// Certificate and Key, in PEM, turn TLS on; connections without it are still answered. Default to
	// none: no TLS.
	Certificate, Key []byte

	// Folder is where the folder of the server is made. Defaults to the one for temporary files.
	Folder string

	// StartTimeout is how long a start may take before it is an error. Defaults to 60 s.
	StartTimeout time.Duration

	// Notice is told in one line of what takes long, such as a download. Defaults to none.
	Notice func(string)
}

// Postgres is a throw-away Postgres server. Its methods are safe for concurrent use.
type Postgres struct {
	// URL connects to the database "postgres" as superuser. It stays the same over restarts.
	URL string

	options  PostgresOptions
	binaries string
	owner    owner
	folder   *scratch.Folder // of this server: data, log and password
	port     int
	password string

	mu     sync.Mutex
	server *process.Process // nil before the first start
}

// StartPostgres starts a server on a free port of the loopback address and returns once it answers.
// The caller ends it with Stop. It runs in its own process group, so that Ctrl-C in a terminal does
// not reach it.
func StartPostgres(ctx context.Context, options PostgresOptions) (*Postgres, error) {
	if options.StartTimeout == 0 {
		options.StartTimeout = time.Minute
	}
	if options.Notice == nil {
		options.Notice = func(string) {}
	}
	binaries, err := postgresBinaries(ctx, options.Version, options.Notice)
	if err != nil {
		return nil, err
	}
	owner, err := ownerOfServers()
	if err != nil {
		return nil, err
	}
	folder, err := owner.makeFolder(options.Folder)
	if err != nil {
		return nil, err
	}
	p := &Postgres{options: options, binaries: binaries, owner: owner, folder: folder, password: rand.Text()}
	if err := p.firstStart(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start Postgres: %w", err), p.Stop())
	}
	return p, nil
}

// firstStart initialises the data folder and starts on a free port, on another one where that was
// taken meanwhile.
func (p *Postgres) firstStart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.initialise(ctx); err != nil {
		return err
	}
	const tries = 5
	for try := 1; ; try++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		p.port = port
		p.URL = p.databaseURL("postgres")
		err = p.start(ctx)
		if err == nil || try == tries || !p.portWasTaken() {
			return err
		}
	}
}

func (p *Postgres) databaseURL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, p.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// initialise makes the data folder with initdb. Other users of the machine can reach the port, so
// there is a password. initdb is given what the server keeps of it, see verifier.
func (p *Postgres) initialise(ctx context.Context) error {
	passwordFile := filepath.Join(p.folder.Path, "password")
	if err := os.WriteFile(passwordFile, []byte(verifier(p.password)), 0o600); err != nil {
		return fmt.Errorf("write password: %w", err)
	}
	if err := p.owner.own(passwordFile); err != nil {
		return fmt.Errorf("hand over password: %w", err)
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }() // written by the child only
	initdb, err := process.Start(p.command(log, "initdb", "--pgdata", p.dataFolder(), "--username", superuser,
		"--pwfile", passwordFile, "--auth", "password", "--encoding", "UTF8", "--locale", "C", "--no-sync"), syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := initdb.Wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("initialise data folder: %w\n%s", err, p.logTail()), initdb.Kill())
	}
	return p.writeCertificate()
}

// writeCertificate puts the certificate where the server looks for it. The server refuses a key
// that others may read.
func (p *Postgres) writeCertificate() error {
	if p.options.Certificate == nil {
		return nil
	}
	for name, content := range map[string][]byte{"server.crt": p.options.Certificate, "server.key": p.options.Key} {
		path := filepath.Join(p.dataFolder(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
		if err := p.owner.own(path); err != nil {
			return fmt.Errorf("hand over certificate: %w", err)
		}
	}
	return nil
}

// command prepares a program of the server, run as its owner with an environment that says nothing
// about ours.
func (p *Postgres) command(output *os.File, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.binaries, program), args...)
	cmd.Dir = p.folder.Path
	path := p.binaries + string(os.PathListSeparator) + os.Getenv("PATH")
	cmd.Env = []string{"PATH=" + path, "LC_ALL=C", "TZ=UTC", "HOME=" + p.folder.Path}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = p.owner.attributes()
	return cmd
}

// CreateDatabase makes an empty database and returns its URL.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) (string, error) {
	if err := p.execute(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return p.databaseURL(name), nil
}

// CopyDatabase makes a database with what is in another one, which must have no sessions, and
// returns its URL. It copies files, where Postgres would write every page to the log as well: that
// costs half the time, and the first session finds the cache of the catalog.
func (p *Postgres) CopyDatabase(ctx context.Context, name, from string) (string, error) {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return "", fmt.Errorf("copy database %s: %w", from, err)
	}
	statement := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", pgx.Identifier{name}.Sanitize(), pgx.Identifier{from}.Sanitize())
	if !strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "14.") { // which knows no other way
		statement += " STRATEGY file_copy"
	}
	_, err = conn.Exec(ctx, statement)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", fmt.Errorf("copy database %s: %w", from, err)
	}
	return p.databaseURL(name), nil
}

// DropDatabase drops a database and ends the sessions in it. It is no error that there is none.
func (p *Postgres) DropDatabase(ctx context.Context, name string) error {
	err := p.execute(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func (p *Postgres) execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
