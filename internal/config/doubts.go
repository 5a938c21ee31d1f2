package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// warnOfFlags warns of secrets on the command line, which every user of the machine reads in the
// list of processes, and which stay in the history of the shell.
func (c *Config) warnOfFlags(flags map[string]string) {
	for _, s := range table() {
		value, given := flags[s.Name]
		// A connection string without a password is no secret.
		if !s.Secret || !given || value == "" || s.Name == "database-url" && Redact(value) == value {
			continue
		}
		file, _ := Lookup(s.Name + FileSuffix)
		instead := fmt.Sprintf("%s or --%s", s.Env(), file.Flag())
		if s.Name == "database-url" {
			instead += ", or only the password with --database-password-file or PGPASSWORD"
		}
		c.Warnings = append(c.Warnings, fmt.Sprintf("%s: the password in --%s is shown to every user of this machine by the list of "+
			"processes; give it with %s", s.Name, s.Flag(), instead))
	}
}

// warnOfClearPasswords warns of a connection string by which the password, and then every event,
// may go over a network without TLS.
func (c *Config) warnOfClearPasswords() {
	parsed, err := pgconn.ParseConfig(c.Relay.DatabaseURL)
	if err != nil || parsed.Password == "" {
		return // a fault, which is reported elsewhere, or nothing to lose
	}
	// The driver tries these one after the other; without TLS they have no TLSConfig.
	ways := append([]*pgconn.FallbackConfig{{Host: parsed.Host, TLSConfig: parsed.TLSConfig}}, parsed.Fallbacks...)
	var hosts []string
	for _, way := range ways {
		if way.TLSConfig == nil && !onThisMachine(way.Host) && !slices.Contains(hosts, way.Host) {
			hosts = append(hosts, way.Host)
		}
	}
	if hosts != nil {
		c.Warnings = append(c.Warnings, fmt.Sprintf("database-url: its sslmode (prefer, unless it says otherwise) allows connections to %s "+
			"without TLS: an attacker on the network can take the place of the server, get at the password and read every event; "+
			"add sslmode=verify-full, and sslrootcert=FILE for an authority of your own", strings.Join(hosts, ", ")))
	}
}

// onThisMachine reports whether a host of Postgres is a Unix socket or a loopback address, as far
// as its name says.
func onThisMachine(host string) bool {
	if host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
