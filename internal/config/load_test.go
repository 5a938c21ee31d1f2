package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// required are the settings that a relay cannot do without.
var required = map[string]string{
	"database-url": "postgres://relay:s3cret@db/app",
	"brokers":      "kafka:9092",
}

// samples are three values of a setting, none of them its default, for flag, environment and file.
func samples(t *testing.T, s Setting) [3]string {
	t.Helper()
	if strings.HasSuffix(s.Name, FileSuffix) {
		return sampleFiles(t, s)
	}
	switch s.Name {
	case "kafka.tls.enabled":
		return [3]string{"true", "true", "true"}
	case "kafka.sasl.without-tls":
		return [3]string{"true", "true", "true"}
	case "kafka.sasl.mechanism":
		return [3]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
	case "database-url":
		return [3]string{"postgres://a/flag", "postgres://a/env", "postgres://a/file"}
	case "brokers":
		return [3]string{"flag:1,more:2", "env:1", "file:1"}
	case "admin":
		return [3]string{"127.0.0.1:1", "127.0.0.1:2", "off"}
	case "partitioner":
		return [3]string{"librdkafka", "sarama", "sarama-reference"}
	case "topics.create":
		return [3]string{"true", "true", "true"}
	case "poll.max", "retry.max":
		return [3]string{"6s", "7s", "8s"}
	case "poll.min", "retry.min":
		return [3]string{"6ms", "7ms", "8ms"}
	}
	if s.Choices != nil {
		var others [3]string
		for i, n := 0, 0; n < 3; i++ {
			if choice := s.Choices[i%len(s.Choices)]; choice != s.Default {
				others[n] = choice
				n++
			}
		}
		return others
	}
	switch s.Kind {
	case Number:
		return [3]string{"11", "12", "13"}
	case Size:
		return [3]string{"1MiB", "2MiB", "3MiB"}
	case Duration, AnyDuration:
		return [3]string{"21s", "22s", "23s"}
	}
	if s.Name == "lanes" {
		return [3]string{"flag=a,other=b", "env=a", "file=c.d"}
	}
	return [3]string{"from-flag", "from-env", "from-file"}
}

// valueOf returns what cfg holds for the setting, as text.
func valueOf(t *testing.T, s Setting, cfg Config) string {
	t.Helper()
	return write(s.field(&cfg))
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// base gives the required settings in the file, except s.
func base(s Setting) string {
	text := companions[s.Name]
	for name, value := range required {
		if name != s.Name && name+FileSuffix != s.Name {
			text += fmt.Sprintf("%s: %q\n", name, value)
		}
	}
	return text
}

func TestAFlagWinsOverTheEnvironmentOverTheFileOverTheDefault(t *testing.T) {
	for _, s := range Settings() {
		t.Run(s.Name, func(t *testing.T) {
			value := samples(t, s)
			flag := map[string]string{s.Name: value[0]}
			env := []string{s.Env() + "=" + value[1], "PATH=/bin"}
			line := fmt.Sprintf("%s: %q\n", s.Name, value[2])
			nested := ""
			for depth, key := range strings.Split(s.Name, ".") {
				nested += "\n" + strings.Repeat("  ", depth) + key + ":"
			}
			nested += fmt.Sprintf(" %q\n", value[2])
			tests := []struct {
				name string
				src  Source
				want string
			}{
				{"all", Source{Flags: flag, Environ: env, File: writeFile(t, base(s)+line)}, value[0]},
				{"environment and file", Source{Environ: env, File: writeFile(t, base(s)+line)}, value[1]},
				{"file", Source{File: writeFile(t, base(s)+line)}, value[2]},
				{"nested in the file", Source{File: writeFile(t, base(s)+nested)}, value[2]},
				{"file named by the environment", Source{Environ: []string{"RELAY_CONFIG=" + writeFile(t, base(s)+line)}}, value[2]},
				{"empty variable", Source{Environ: []string{s.Env() + "="}, File: writeFile(t, base(s)+line)}, value[2]},
			}
			if required[s.Name] == "" && required[strings.TrimSuffix(s.Name, FileSuffix)] == "" && companions[s.Name] == "" {
				tests = append(tests, struct {
					name string
					src  Source
					want string
				}{"nothing", Source{File: writeFile(t, base(s))}, s.Default})
			}
			for _, test := range tests {
				cfg, err := Load(test.src, Everything)
				if err != nil {
					t.Errorf("%s: %v", test.name, err)
					continue
				}
				if cfg.Relay.DatabaseURLFunc == nil {
					cfg.Schema, cfg.Relay.DatabaseURL = restore(cfg)
				}
				if got := valueOf(t, s, cfg); got != test.want {
					t.Errorf("%s: got %q, want %q", test.name, got, test.want)
				}
			}
		})
	}
}

// restore takes the search_path out of the connection string again, which a schema puts there.
func restore(cfg Config) (schema, databaseURL string) {
	plain, _, _ := strings.Cut(cfg.Relay.DatabaseURL, "?search_path=")
	return cfg.Schema, plain
}

func TestTheDefaultsAreThoseOfTheEngine(t *testing.T) {
	cfg, err := Load(Source{Flags: required}, Everything)
	if err != nil {
		t.Fatal(err)
	}
	got, want := cfg.Relay, *new(relay.Config).WithDefaults()
	want.DatabaseURL, want.Brokers = required["database-url"], []string{required["brokers"]}
	// Functions and loggers do not compare.
	got.Logger, want.Logger = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEverySettingOfTheEngineCanBeSet(t *testing.T) {
	reached := map[string]bool{}
	changed := defaultConfig()
	for _, s := range Settings() {
		if err := s.set(&changed, samples(t, s)[0]); err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
	}
	defaults := reflect.ValueOf(*new(relay.Config).WithDefaults())
	after := reflect.ValueOf(changed.Relay)
	for i := range defaults.NumField() {
		name := defaults.Type().Field(i).Name
		switch name {
		case "DatabaseURLFunc", "KafkaOptions", "Logger", "Hooks", "Check":
			continue // not for people to set
		}
		if reached[name] = !reflect.DeepEqual(defaults.Field(i).Interface(), after.Field(i).Interface()); !reached[name] {
			t.Errorf("no setting reaches relay.Config.%s", name)
		}
	}
}

func TestNamesAreDerivedFromOneName(t *testing.T) {
	seen := map[string]string{}
	for _, s := range Settings() {
		if !regexp.MustCompile(`^[a-z]+([.-][a-z]+)*$`).MatchString(s.Name) {
			t.Errorf("%q is no name", s.Name)
		}
		for _, derived := range []string{s.Flag(), s.Env()} {
			if other := seen[derived]; other != "" {
				t.Errorf("%s stands for both %s and %s", derived, other, s.Name)
			}
			seen[derived] = s.Name
		}
		if foreign.MatchString(s.Env()) {
			t.Errorf("%s looks like a variable that Kubernetes sets for a Service", s.Env())
		}
		if s.Help == "" || strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s: the help %q is empty or ends with a full stop", s.Name, s.Help)
		}
	}
	s, ok := Lookup("topics.create")
	if !ok || s.Flag() != "topics-create" || s.Env() != "RELAY_TOPICS_CREATE" {
		t.Errorf("got %q and %q", s.Flag(), s.Env())
	}
}

// faultsOf loads with the required settings and returns the faults.
func faultsOf(t *testing.T, src Source) []error {
	t.Helper()
	if src.Flags == nil {
		src.Flags = map[string]string{}
	}
	for name, value := range required {
		if _, ok := src.Flags[name]; !ok {
			src.Flags[name] = value
		}
	}
	_, err := Load(src, Everything)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*Invalid](err)
	if !ok || !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v is not an *Invalid that is ErrInvalid", err)
	}
	return invalid.Faults
}

func TestBadValuesAreRefusedWithTheNameOfTheSetting(t *testing.T) {
	bad := map[Kind][]string{
		Number:      {"-1", "ten", "1.5", "", "99999999999999999999", "2147483648"},
		Size:        {"-1", "-1MiB", "8 elephants", "", "3000GiB", "MiB"},
		Duration:    {"-1s", "5", "soon", "", "0s"},
		AnyDuration: {"-1s", "5", "soon", "", "off", "Forever"},
		Switch:      {"maybe", "2", ""},
	}
	for _, s := range Settings() {
		values := bad[s.Kind]
		if s.Choices != nil {
			values = append(values, "no-such-choice", "")
		}
		for _, value := range values {
			faults := faultsOf(t, Source{Flags: map[string]string{s.Name: value}})
			if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), s.Name+": ") {
				t.Errorf("%s = %q: got the faults %v", s.Name, value, faults)
			}
		}
	}
}

func TestTheRetentionMayBeZeroOrForever(t *testing.T) {
	for text, want := range map[string]struct {
		is      time.Duration
		written string
	}{
		"0": {relay.RemoveAtOnce, "0"}, "0s": {relay.RemoveAtOnce, "0"}, "forever": {relay.KeepForever, "forever"},
		"90m": {90 * time.Minute, "1h30m"}, "24h": {24 * time.Hour, "24h"},
	} {
		var got anyDuration
		if err := setAnyDuration(&got, text); err != nil || time.Duration(got) != want.is || write(&got) != want.written {
			t.Errorf("%s: is %v, written %q, %v", text, time.Duration(got), write(&got), err)
		}
	}
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	file := writeFile(t, "topic.create: true\nbatch: {rows: -1}\nlog: {level: loud}\n")
	faults := faultsOf(t, Source{
		Flags:   map[string]string{"poll.min": "1s", "admin": "nonsense", "brokers": "a:1,b", "route": ""},
		Environ: []string{"RELAY_BROKER=x"},
		File:    file,
	})
	want := []string{
		"unknown key topic.create (" + file + " line 1)",
		"unknown environment variable RELAY_BROKER",
		`route: "" is not allowed (--route)`,
		"batch.rows: -1 is negative (" + file + " line 2)",
		`log.level: "loud" is not one of debug, info, warn, error (` + file + " line 3)",
		"poll.max: 50ms is less than poll.min (1s)",
		`brokers: "b" is not HOST:PORT`,
		`admin: "nonsense" is neither HOST:PORT nor off`,
	}
	for i := range max(len(want), len(faults)) {
		if i >= len(want) || i >= len(faults) || !strings.HasPrefix(faults[i].Error(), want[i]) {
			t.Fatalf("fault %d is not as wanted\ngot  %q\nwant %q", i+1, faults, want)
		}
	}
}

func TestUnknownNamesAreErrorsWithTheNearestKnownOne(t *testing.T) {
	tests := []struct {
		src  Source
		hint string
	}{
		{Source{File: writeFile(t, "topics: {creat: true}")}, "topics.create"},
		{Source{File: writeFile(t, "database_url: x")}, "database-url"},
		{Source{File: writeFile(t, "log: debug")}, "relay run --help"},
		{Source{File: writeFile(t, "entirely-different: 1")}, "relay run --help"},
		{Source{Environ: []string{"RELAY_TOPIC_CREATE=1"}}, "RELAY_TOPICS_CREATE"},
		{Source{Environ: []string{"RELAY_XYZ=1"}}, "unset RELAY_XYZ"},
	}
	for _, test := range tests {
		faults := faultsOf(t, test.src)
		if len(faults) != 1 {
			t.Errorf("%+v: got the faults %v", test.src, faults)
			continue
		}
		if hints := hint.Of(faults[0]); len(hints) != 1 || !strings.Contains(hints[0], test.hint) {
			t.Errorf("%v has the hints %q, want %s", faults[0], hints, test.hint)
		}
	}
}

func TestVariablesOfTestsAndOfKubernetesServicesAreLeftAlone(t *testing.T) {
	faults := faultsOf(t, Source{Environ: []string{
		"RELAY_TEST_DATABASE_URL=x", "RELAY_FAILPOINT=", "RELAYED=x",
		"RELAY_SERVICE_HOST=10.0.0.1", "RELAY_SERVICE_PORT=80", "RELAY_SERVICE_PORT_HTTP=80", "RELAY_PORT=tcp://10.0.0.1:80",
		"RELAY_PORT_80_TCP=x", "RELAY_PORT_80_TCP_ADDR=x", "RELAY_ADMIN_SERVICE_HOST=x", "RELAY_ADMIN_PORT_8685_TCP_PROTO=tcp",
	}})
	if faults != nil {
		t.Error(faults)
	}
}

func TestFilesThatCannotBeReadGiveOneError(t *testing.T) {
	folder := t.TempDir()
	tests := map[string]string{
		folder:                                   "is a directory",
		filepath.Join(folder, "absent.yaml"):     "does not exist",
		writeFile(t, "a: ["):                     "is not valid YAML",
		writeFile(t, "- a\n- b\n"):               "does not hold settings",
		writeFile(t, "just text"):                "does not hold settings",
		writeFile(t, "name: a\n---\nname: b\n"):  "more than one YAML document",
		writeFile(t, "name: a") + "/relay.yaml":  "not a directory",
		writeFile(t, "name: \xff\xfe invalid\n"): "is not valid YAML",
	}
	for path, want := range tests {
		_, err := Load(Source{File: path}, Everything)
		invalid, ok := errors.AsType[*Invalid](err)
		if !ok || len(invalid.Faults) != 1 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want one fault with %q", path, err, want)
		}
	}
}

func TestFilesMayBeEmptyAndMayUseAliasesAndLists(t *testing.T) {
	for _, text := range []string{"", "# nothing but a comment\n", "---\n", "null\n"} {
		if faults := faultsOf(t, Source{File: writeFile(t, text)}); faults != nil {
			t.Errorf("%q: %v", text, faults)
		}
	}
	text := "database-url: host=db dbname=app\nbrokers:\n  - a:1\n  - b:2\npoll: {min: &p 5ms, max: 9ms}\nretry.min: *p\n"
	cfg, err := Load(Source{File: writeFile(t, text)}, Everything)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cfg.Relay.Brokers, " "); got != "a:1 b:2" || cfg.Relay.RetryMin != 5*time.Millisecond {
		t.Errorf("got %q and %v", got, cfg.Relay.RetryMin)
	}
}

func TestValuesOfTheWrongShapeAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"name:":                                  "name: has no value",
		"name: [a, b]":                           "name: is not a single value",
		"name: {a: b}":                           "name: is not a single value",
		"brokers: {a: b}":                        "brokers: is not a list of texts",
		"brokers: [[a]]":                         "brokers: is not a list of texts",
		"name: a\nname: b":                       "name: set twice, first in line 1",
		"poll.min: 1s\npoll: {min: 2s, max: 9s}": "poll.min: set twice, first in line 1",
	} {
		_, err := Load(Source{Flags: map[string]string{"database-url": "a=b", "brokers": "a:1"}, File: writeFile(t, text)}, Everything)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestACommandThatNeedsTheDatabaseAsksForNothingElse(t *testing.T) {
	if _, err := Load(Source{Flags: map[string]string{"database-url": "postgres://db/app"}}, Database); err != nil {
		t.Error(err)
	}
	_, err := Load(Source{}, Database)
	if err == nil || len(hint.Of(err)) == 0 || !strings.Contains(err.Error(), "database-url") {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
}
