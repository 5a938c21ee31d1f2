package relay

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfigDefaults(t *testing.T) {
	c := (*Config)(nil).WithDefaults()
	for name, pair := range map[string][2]any{
		"Lanes":              {c.Lanes, []Lane{{Name: "outbox", Table: "outbox"}}},
		"Route":              {c.Route, "outbox.event.{aggregate_type}"},
		"Topics":             {c.Topics, Topics{Timeout: 10 * time.Second}},
		"Poison":             {c.Poison, Park},
		"Partitioner":        {c.Partitioner, "murmur2"},
		"Compression":        {c.Compression, "snappy"},
		"ContentType":        {c.ContentType, "application/json"},
		"BatchRows":          {c.BatchRows, 5000},
		"BatchBytes":         {c.BatchBytes, 8 << 20},
		"PollMin":            {c.PollMin, 2 * time.Millisecond},
		"PollMax":            {c.PollMax, 50 * time.Millisecond},
		"TransactionTimeout": {c.TransactionTimeout, 15 * time.Second},
		"SessionTimeout":     {c.SessionTimeout, 6 * time.Second},
		"DrainTimeout":       {c.DrainTimeout, 10 * time.Second},
		"RetryMin":           {c.RetryMin, 100 * time.Millisecond},
		"RetryMax":           {c.RetryMax, 5 * time.Second},
		"Name":               {c.Name, ""},
		"KafkaOptions":       {len(c.KafkaOptions), 0},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s defaults to %v, its doc says %v", name, pair[0], pair[1])
		}
	}
	if c.Logger == nil {
		t.Error("the logger has no default")
	}
	set := valid()
	set.BatchRows, set.Route, set.PollMax = 7, "events", time.Second
	if got := set.WithDefaults(); got.BatchRows != 7 || got.Route != "events" || got.PollMax != time.Second {
		t.Errorf("defaults replace what is set: %+v", got)
	}
	if set.Compression != "" {
		t.Error("WithDefaults changed its receiver")
	}
}

func valid() Config {
	return Config{DatabaseURL: "postgres://relay@db/app", Brokers: []string{"kafka:9092"}}
}

func TestConfigThatIsValid(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"the least":  func(*Config) {},
		"many lanes": func(c *Config) { c.Lanes = []Lane{{Name: "a", Table: "a"}, {Name: "b", Table: "billing.outbox"}} },
		"every edge, least": func(c *Config) {
			c.BatchRows, c.BatchBytes, c.PollMin, c.RetryMin = 1, 1024, 100*time.Microsecond, time.Millisecond
		},
		"every edge, most": func(c *Config) { c.BatchRows, c.BatchBytes = 100_000, 1<<30 },
		"equal bounds":     func(c *Config) { c.PollMin, c.PollMax, c.RetryMin, c.RetryMax = 1e9, 1e9, 1e9, 1e9 },
		"a fixed route":    func(c *Config) { c.Route = "events" },
		"a long name":      func(c *Config) { c.Name = strings.Repeat("n", 100) },
		"another library":  func(c *Config) { c.Partitioner, c.Compression = "librdkafka", "zstd" },
	} {
		c := valid()
		change(&c)
		if err := c.WithDefaults().validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"database-url: not set":          func(c *Config) { c.DatabaseURL = "" },
		"brokers: not set":               func(c *Config) { c.Brokers = nil },
		"brokers: an empty address":      func(c *Config) { c.Brokers = []string{"a:1", " "} },
		`name: "a b"`:                    func(c *Config) { c.Name = "a b" },
		"name: \"nnn":                    func(c *Config) { c.Name = strings.Repeat("n", 101) },
		`lanes: "" has`:                  func(c *Config) { c.Lanes = []Lane{{Name: "", Table: "t"}} },
		`lanes: "a/b" has`:               func(c *Config) { c.Lanes = []Lane{{Name: "a/b", Table: "t"}} },
		`lanes: lane "a" has no table`:   func(c *Config) { c.Lanes = []Lane{{Name: "a", Table: ""}} },
		`lanes: two lanes are named "a"`: func(c *Config) { c.Lanes = []Lane{{Name: "a", Table: "t"}, {Name: "a", Table: "u"}} },
		"route: ":                        func(c *Config) { c.Route = "x.{aggregate}" },
		`compression: "brotli" is not one of gzip, lz4`: func(c *Config) { c.Compression = "brotli" },
		"partitioner: ":                                   func(c *Config) { c.Partitioner = "random" },
		"batch.rows: -1":                                  func(c *Config) { c.BatchRows = -1 },
		"batch.rows: 100001":                              func(c *Config) { c.BatchRows = 100_001 },
		"batch.bytes: 1023":                               func(c *Config) { c.BatchBytes = 1023 },
		"batch.bytes: 1073741825":                         func(c *Config) { c.BatchBytes = 1<<30 + 1 },
		"poll.min: 99":                                    func(c *Config) { c.PollMin = 99 * time.Microsecond },
		"poll.min: -1s":                                   func(c *Config) { c.PollMin = -time.Second },
		"poll.max: 1ms is less than poll.min (2ms)":       func(c *Config) { c.PollMax = time.Millisecond },
		"transaction.timeout: 999ms":                      func(c *Config) { c.TransactionTimeout = 999 * time.Millisecond },
		"session.timeout: 1ms":                            func(c *Config) { c.SessionTimeout = time.Millisecond },
		"drain.timeout: -1ns":                             func(c *Config) { c.DrainTimeout = -1 },
		"retry.min: 1µs":                                  func(c *Config) { c.RetryMin = time.Microsecond },
		"retry.max: 1ms is less than retry.min":           func(c *Config) { c.RetryMax = time.Millisecond },
		"topics.partitions: -1":                           func(c *Config) { c.Topics.Partitions = -1 },
		"topics.patience: -1s":                            func(c *Config) { c.Topics.Timeout = -time.Second },
		`poison: "drop" is not one of park, skip, halt`:   func(c *Config) { c.Poison = "drop" },
		"lane a: batch.rows: -2":                          func(c *Config) { c.Lanes = []Lane{{Name: "a", Table: "t", BatchRows: -2}} },
		`lanes: lanes "a" and "b" publish the same table`: func(c *Config) { c.Lanes = []Lane{{Name: "a", Table: "t"}, {Name: "b", Table: "t"}} },
		"topics.replication-factor: -1":                   func(c *Config) { c.Topics.ReplicationFactor = -1 },
	} {
		c := valid()
		change(&c)
		err := c.WithDefaults().validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a fault %q, got %v", want, err)
			continue
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != 1 {
			t.Errorf("one fault, %d lines: %q", len(lines), lines)
		}
		if _, err := New(&c); err == nil {
			t.Errorf("New takes a Config with %q", want)
		}
	}
}

func TestConfigNamesAllFaultsAtOnce(t *testing.T) {
	c := Config{
		Brokers: []string{""}, Name: "/", Lanes: []Lane{{Name: "/", Table: ""}}, Route: "{", Compression: "x", Partitioner: "x", BatchRows: -1, BatchBytes: -1,
		PollMin: -1, PollMax: -2, TransactionTimeout: -1, SessionTimeout: -1, DrainTimeout: -1, RetryMin: -1, RetryMax: -2,
		Topics: Topics{Partitions: -1, ReplicationFactor: -1},
	}
	err := c.WithDefaults().validate()
	if err == nil {
		t.Fatal("no fault")
	}
	for _, setting := range []string{
		"database-url", "brokers", "name", "lanes", "route", "compression", "partitioner", "batch.rows", "batch.bytes", "poll.min", "poll.max",
		"transaction.timeout", "session.timeout", "drain.timeout", "retry.min", "retry.max", "topics.partitions", "topics.replication-factor",
	} {
		if !strings.Contains("\n"+err.Error(), "\n"+setting+": ") {
			t.Errorf("%s is not among the faults:\n%v", setting, err)
		}
	}
}

func TestNameIsThatOfTheDatabase(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://relay@db:5432/app": "app",
		"host=db user=relay":           "relay",
		"dbname=app-1.x host=db":       "app-1.x",
	} {
		c := valid()
		c.DatabaseURL = url
		r, err := New(&c)
		if err != nil || r.Name() != want || len(r.Status()) != 0 {
			t.Errorf("%s: name %v, %v", url, r, err)
		}
	}
	for _, url := range []string{"postgres://relay@db/a%20b", "postgres://[", "port=x"} {
		c := valid()
		c.DatabaseURL = url
		if _, err := New(&c); err == nil {
			t.Errorf("%s: no fault", url)
		}
	}
	c := valid()
	c.DatabaseURL, c.Name = "postgres://relay@db/a%20b", "named"
	if r, err := New(&c); err != nil || r.Name() != "named" {
		t.Errorf("its own name: %v", err)
	}
}

// fill sets every field of a struct to something else than its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { return nil }))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	}
}

// unset lists the exported fields of a struct that have their zero value.
func unset(v reflect.Value, path string) (names []string) {
	for i := range v.NumField() {
		field, name := v.Field(i), path+v.Type().Field(i).Name
		switch {
		case !v.Type().Field(i).IsExported():
		case field.Kind() == reflect.Struct:
			names = append(names, unset(field, name+".")...)
		case field.IsZero():
			names = append(names, name)
		}
	}
	return names
}

func TestEveryFieldReachesTheEngine(t *testing.T) {
	full := valid()
	fill(reflect.ValueOf(&full).Elem())
	full.DatabaseURL, full.Brokers = "postgres://relay@db/app", []string{"kafka:9092"}
	full.Partitioner, full.Compression, full.Poison = "murmur2", "zstd", Skip
	full.BatchBytes, full.PollMin, full.PollMax = 1<<20, time.Millisecond, time.Second
	full.TransactionTimeout, full.SessionTimeout, full.RetryMin, full.RetryMax = time.Second, time.Second, time.Second, time.Second
	own := &full.Lanes[0]
	own.Partitioner, own.Compression, own.Poison = "librdkafka", "none", Halt
	own.BatchBytes, own.PollMin, own.PollMax = 1<<21, 2*time.Millisecond, 2*time.Second
	inherits := Lane{Name: "y", Table: "y"}
	full.Lanes = append(full.Lanes, inherits)
	got, err := full.forEngine()
	if err != nil {
		t.Fatal(err)
	}
	// Those are settings of lanes, and set below; Step and Trace come through the context.
	perLane := []string{"Step", "Trace", "Topics.Allow", "Route", "Partitioner", "Compression", "ContentType", "Poison",
		"BatchRows", "BatchBytes", "Retention", "PollMin", "PollMax"}
	for _, name := range unset(reflect.ValueOf(got), "") {
		if !slices.Contains(perLane, name) {
			t.Errorf("%s does not reach the engine", name)
		}
	}
	for i, want := range []Lane{*own, inherits.over(full.shared())} {
		if names := unset(reflect.ValueOf(got.Lanes[i]), ""); len(names) > 0 {
			t.Errorf("lane %d lacks %v", i, names)
		}
		if !reflect.DeepEqual(got.Lanes[i], want.forEngine()) {
			t.Errorf("lane %d is %+v, want %+v", i, got.Lanes[i], want)
		}
	}
}

func TestARetentionOfItsOwn(t *testing.T) {
	c := valid()
	c.Retention, c.Lanes = KeepForever, []Lane{{Name: "a", Table: "a", Retention: RemoveAtOnce}, {Name: "b", Table: "b"}}
	got, err := c.forEngine()
	if err != nil || got.Lanes[0].Retention != RemoveAtOnce || got.Lanes[1].Retention != KeepForever {
		t.Errorf("got %+v, %v", got.Lanes, err)
	}
}
