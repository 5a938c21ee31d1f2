package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
)

// Source says where the values come from.
type Source struct {
	// Flags are the values of the flags that were given, by the name of the setting.
	Flags map[string]string
	// Environ is the environment, NAME=value each, as os.Environ returns it.
	Environ []string
	// File is the path of the file given by a flag; empty, RELAY_CONFIG decides, and without it
	// there is no file.
	File string
}

// Needs says what a command cannot do without.
type Needs int

// What Load checks beyond the form of the values.
const (
	// Database: the connection string must be there.
	Database Needs = iota
	// Everything: the configuration must be fit to run the relay.
	Everything
	// Names: neither servers nor secrets are needed, and no file with a secret is read.
	Names
)

// ErrInvalid is wrapped by every error of Load.
var ErrInvalid = errors.New("invalid configuration")

// Load reads the configuration. Its error lists every fault that was found, each naming its setting
// and where the value came from, and wraps ErrInvalid.
func Load(src Source, needs Needs) (Config, error) {
	env := environment(src.Environ)
	faults := &faultList{}

	path := src.File
	if path == "" {
		path = env["RELAY_CONFIG"]
	}
	fromFile := map[string]fileValue{}
	if path != "" {
		var err error
		if fromFile, err = readFile(path, faults); err != nil {
			// What the file would have said is not known, so nothing can be said to be missing.
			return Config{}, &Invalid{Faults: []error{err}}
		}
	}
	checkEnvironment(env, faults)

	cfg := defaultConfig()
	given := map[string]source{}
	for _, s := range Settings() {
		value, from := choose(s, src.Flags, env, fromFile, path)
		if from.rank == 0 {
			continue
		}
		given[s.Name] = from
		if value.lanes != nil {
			cfg.Relay.Lanes = value.lanes
			continue
		}
		if err := s.set(&cfg, value.text); err != nil {
			err = fmt.Errorf("%s: %w (%s)", s.Name, err, from.origin)
			if s.Default != "" && s.Choices == nil {
				err = hint.Wrap(err, "leave %s out, or a value such as the default, %s", s.Name, s.Default)
			}
			faults.add(s.Name, err)
		}
	}
	preferStronger(&cfg, given, faults)
	if needs != Names {
		cfg.readDatabaseURL(faults)
	}
	if table, lanes := given["table"], given["lanes"]; table.rank > 0 && lanes.rank > 0 {
		faults.add("table", hint.New(fmt.Sprintf("table: set together with lanes (%s and %s)", table.origin, lanes.origin),
			"name every table in lanes, and leave table out"))
	}
	cfg.check(needs, faults)
	if needs == Everything {
		cfg.warnOfFlags(src.Flags)
		cfg.warnOfClearPasswords()
	}
	if err := faults.join(); err != nil {
		return Config{}, err
	}
	cfg.Relay.DatabaseURL = withSchema(cfg.Relay.DatabaseURL, cfg.Schema)
	return cfg, nil
}

// source is where a value came from.
type source struct {
	rank   int // of a flag 3, the environment 2, the file 1; 0 for nowhere
	origin string
}

// choose picks the value that wins, and says where it came from. A variable that is set to nothing
// counts as not set, as templates of containers leave it so.
func choose(s Setting, flags, env map[string]string, file map[string]fileValue, path string) (value fileValue, from source) {
	if v, ok := flags[s.Name]; ok {
		return fileValue{text: v}, source{3, "--" + s.Flag()}
	}
	if v := env[s.Env()]; v != "" {
		return fileValue{text: v}, source{2, s.Env()}
	}
	if v, ok := file[s.Name]; ok {
		return v, source{1, fmt.Sprintf("%s line %d", path, v.line)}
	}
	return fileValue{}, source{}
}

// check reports what no single value shows. A setting that already has a fault is left alone: its
// field holds the default.
func (c *Config) check(needs Needs, faults *faultList) {
	if c.Schema != "" && strings.ContainsRune(c.Schema, 0) {
		faults.add("schema", errors.New("schema: a name cannot hold a zero byte"))
	}
	if c.Relay.DatabaseURL != "" {
		if err := checkDatabaseURL(c.Relay.DatabaseURL); err != nil {
			faults.add("database-url", err)
		}
	}
	if needs == Names {
		return
	}
	if needs == Database {
		if c.Relay.DatabaseURL == "" && !faults.has("database-url") {
			faults.add("database-url", hint.New("database-url: not set",
				"--database-url postgres://relay@db:5432/app, or set RELAY_DATABASE_URL"))
		}
		return
	}
	// What a relay without a name is called is not the matter of every command, and depends on the
	// database.
	named := c.Relay
	named.Name = cmp.Or(named.Name, "unnamed")
	_, err := relay.New(&named)
	for _, fault := range split(err) {
		faults.addNamed(fault)
	}
	c.checkKafka(faults)
	for _, broker := range c.Relay.Brokers {
		if broker != "" && !isAddress(broker) {
			faults.add("brokers", fmt.Errorf("brokers: %q is not HOST:PORT", broker))
		}
	}
	if c.Admin != AdminOff && !faults.has("admin") && !isAddress(c.Admin) {
		faults.add("admin", fmt.Errorf("admin: %q is neither HOST:PORT nor off", c.Admin))
	}
}

func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// split takes an error made by errors.Join apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// environment returns the variables whose names begin with Prefix.
func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, Prefix) {
			env[name] = value
		}
	}
	return env
}

// foreign matches variables that are not ours though they begin as ours do: those of the tests, and
// those that Kubernetes sets in every pod for a Service whose name is relay or begins with relay-.
var foreign = regexp.MustCompile(`^RELAY_(TEST_.*|CONFIG|FAILPOINT|` +
	`([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?))$`)

func checkEnvironment(env map[string]string, faults *faultList) {
	var known []string
	for _, s := range Settings() {
		known = append(known, s.Env())
	}
	names := make([]string, 0, len(env))
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.Contains(known, name) || foreign.MatchString(name) {
			continue
		}
		err := fmt.Errorf("unknown environment variable %s", name)
		if near := Nearest(name, known); near != "" {
			err = hint.Wrap(err, "%s, or unset %s", near, name)
		} else {
			err = hint.Wrap(err, "unset %s; relay run --help lists the variables", name)
		}
		faults.add(name, err)
	}
}

// faultList collects faults in the order in which they are found, at most one a subject from
// validation.
type faultList struct {
	subjects map[string]bool
	errs     []error
}

func (f *faultList) add(subject string, err error) {
	if f.subjects == nil {
		f.subjects = map[string]bool{}
	}
	f.subjects[subject] = true
	f.errs = append(f.errs, err)
}

// addNamed adds a fault that begins with the name of its setting, unless that one has a fault
// already.
func (f *faultList) addNamed(err error) {
	name, _, _ := strings.Cut(err.Error(), ":")
	if !f.has(name) {
		f.add(name, err)
	}
}

func (f *faultList) has(subject string) bool { return f.subjects[subject] }

func (f *faultList) join() error {
	if len(f.errs) == 0 {
		return nil
	}
	return &Invalid{Faults: f.errs}
}

// Invalid is the error of Load: every fault of the configuration.
type Invalid struct {
	// Faults are in the order: file, environment, values, ranges.
	Faults []error
}

// Error lists the faults, a line each.
func (e *Invalid) Error() string { return errors.Join(e.Faults...).Error() }

// Unwrap returns the faults.
func (e *Invalid) Unwrap() []error { return e.Faults }

// Is reports that the error is ErrInvalid.
func (e *Invalid) Is(target error) bool { return target == ErrInvalid }
