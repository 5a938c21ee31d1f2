package preflight

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/pg"
)

// SQLSTATEs that the hints depend on.
const (
	wrongPassword     = "28P01"
	refused           = "28000"
	noDatabase        = "3D000"
	noSchema          = "3F000"
	noTable           = "42P01"
	noColumn          = "42703"
	notAllowed        = "42501"
	readOnly          = "25006"
	duplicateTable    = "42P07"
	duplicateFunction = "42723"
	startingUp        = "57P03"
	tooMany           = "53300"
	protocolViolation = "08P01"
)

// Connect opens a session on Postgres for work on the outbox, trying again until the time is up if
// the server does not answer. Its errors are explained and free of secrets. See package pg for what
// is pinned in the session.
func Connect(ctx context.Context, databaseURL string, timeout time.Duration) (*pgx.Conn, error) {
	return ConnectFor(ctx, databaseURL, timeout, Outbox)
}

// What commands work on. The tables of the outbox stand beside relay_lanes, those of consumers
// beside inbox; how text is stored is a matter of the outbox only.
var (
	Outbox = pg.Options{Application: "relay", Beside: "relay_lanes"}
	Inbox  = pg.Options{Application: "relay inbox", Beside: "inbox", AnyEncoding: true}
)

// ConnectFor is Connect for other work.
func ConnectFor(ctx context.Context, databaseURL string, timeout time.Duration, options pg.Options) (*pgx.Conn, error) {
	cfg, err := pg.Config(databaseURL, options)
	if err != nil {
		return nil, errors.New("database-url: not a valid connection string")
	}
	return connect(ctx, cfg, timeout, func(error) {})
}

// connect tells failed of each attempt that fails.
func connect(ctx context.Context, cfg *pgx.ConnConfig, timeout time.Duration, failed func(error)) (*pgx.Conn, error) {
	var conn *pgx.Conn
	err := persist(ctx, timeout, func(ctx context.Context) (err error) {
		if conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
			failed(err)
		}
		return err
	})
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case forGood(err):
		return nil, permanent{explainConnect(err, cfg, timeout)}
	}
	return nil, explainConnect(err, cfg, timeout)
}

// explainConnect says which server failed and how, in place of the several lines of the driver.
func explainConnect(err error, cfg *pgx.ConnConfig, timeout time.Duration) error {
	where := net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port))
	if strings.HasPrefix(cfg.Host, "/") {
		where = fmt.Sprintf("%s/.s.PGSQL.%d", cfg.Host, cfg.Port)
	}
	if refused := pg.Refused(err); refused != nil {
		return hint.New(refused.Problem(), refused.Try())
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explain(&serverError{server, " at " + where})
	}
	if try := explainTLS(err); try != "" {
		return hint.New(fmt.Sprintf("cannot connect to Postgres at %s: %s", where, innermost(err)), try)
	}
	err = fmt.Errorf("cannot connect to Postgres at %s within %v: %s", where, timeout, innermost(err))
	return hint.Wrap(err, "check host, port and sslmode in --database-url, and that Postgres runs there")
}

// explainTLS returns what to do if the encryption of a connection is at fault, which waiting
// does not fix; empty for another error.
func explainTLS(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "sslrootcert=FILE in --database-url with the authority that signed the server's certificate, in PEM"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "connect in --database-url to a host that the server's certificate is for: sslmode=verify-full compares the two"
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "renew the certificate of the server, and check the clocks"
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		// The driver has no type for it.
		return "turn ssl on in the server, or choose another sslmode in --database-url"
	}
	return ""
}

// innermost returns the text of the cause that an operator can act on.
func innermost(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("no address for host %s", dns.Name)
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return unknown.Error()
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return name.Error()
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return invalid.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	text := config.Redact(err.Error())
	// The driver puts the addresses it tried before the cause.
	if i := strings.LastIndex(text, "): "); i >= 0 {
		text = text[i+len("): "):]
	}
	return text
}

// Explain adds a hint to an error of Postgres, chosen by its SQLSTATE. Other errors come back as
// they are, free of passwords in their connection strings.
func Explain(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explain(&serverError{server, ""})
	}
	return err
}

func explain(err *serverError) error {
	try := ""
	if isPooler(err.pg) {
		return hint.Wrap(err, "give the address of Postgres itself in --database-url: a pooler takes away the session that the relay works on")
	}
	switch err.pg.Code {
	case wrongPassword, refused:
		try = "check user and password in --database-url (or PGUSER, PGPASSWORD), and pg_hba.conf on the server"
	case noDatabase:
		try = "check the name of the database in --database-url, or create it with createdb"
	case noTable, noColumn:
		try = "relay migrate up --database-url … (with --schema if the outbox has its own schema)"
	case noSchema:
		try = "create the schema first: CREATE SCHEMA name"
	case notAllowed:
		try = "grant the role of --database-url what it needs; relay migrate print shows the objects"
	case readOnly:
		try = "give the address of the primary in --database-url; this server is a standby or read-only"
	case duplicateTable, duplicateFunction:
		try = "relay migrate status; the objects may have been made by another tool or another schema comes first in the search_path"
	case startingUp:
		try = "again once Postgres is up, or a longer --start-timeout"
	case tooMany:
		try = "raise max_connections, or end sessions that are not needed"
	default:
		return err
	}
	return hint.Wrap(err, "%s", try)
}

// isPooler reports whether a pooler has refused a setting of the session. It has no code for that
// for that.
func isPooler(err *pgconn.PgError) bool {
	return err.Code == protocolViolation && strings.Contains(err.Message, "unsupported startup parameter")
}

// serverError reads as what the server said, without the driver's frame around it.
type serverError struct {
	pg    *pgconn.PgError
	where string
}

func (e *serverError) Error() string {
	return fmt.Sprintf("Postgres%s says: %s (SQLSTATE %s)", e.where, e.pg.Message, e.pg.Code)
}

func (e *serverError) Unwrap() error { return e.pg }

// forGood reports whether waiting cannot fix err.
func forGood(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		_, misread := errors.AsType[*pgconn.ParseConfigError](err)
		return misread || pg.Refused(err) != nil || explainTLS(err) != ""
	}
	switch server.Code {
	case noDatabase, noSchema, noTable, noColumn, notAllowed:
		return true
	}
	return strings.HasPrefix(server.Code, "28") || isPooler(server)
}
