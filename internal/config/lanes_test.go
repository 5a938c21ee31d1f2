package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay"
)

func TestALaneHasSettingsOfItsOwn(t *testing.T) {
	cfg, err := Load(Source{Flags: required, File: writeFile(t, `
batch.rows: 7
lanes:
  orders: orders.outbox
  billing:
    table: billing.outbox
    route: billing.{aggregate_type}
    poison: halt
    batch:
      rows: 9
      bytes: 1MiB
    poll.max: 1s
`)}, Everything)
	if err != nil {
		t.Fatal(err)
	}
	want := []relay.Lane{
		{Name: "orders", Table: "orders.outbox"},
		{
			Name: "billing", Table: "billing.outbox", Route: "billing.{aggregate_type}", Poison: relay.Halt, BatchRows: 9, BatchBytes: 1 << 20,
			PollMax: time.Second,
		},
	}
	if !reflect.DeepEqual(cfg.Relay.Lanes, want) {
		t.Errorf("got  %+v\nwant %+v", cfg.Relay.Lanes, want)
	}
}

func TestEverySettingOfALaneIsOneOfAll(t *testing.T) {
	lane := relay.Lane{}
	fields := laneFields(&lane)
	for name := range fields {
		s, known := Lookup(name)
		if !known {
			t.Errorf("%s is no setting", name)
			continue
		}
		if err := s.setField(fields[name], samples(t, s)[0]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	value := reflect.ValueOf(lane)
	for i := range value.NumField() {
		if name := value.Type().Field(i).Name; name != "Name" && value.Field(i).IsZero() {
			t.Errorf("no setting reaches relay.Lane.%s", name)
		}
	}
}

func TestFaultsOfLanes(t *testing.T) {
	for text, want := range map[string]string{
		"lanes: orders\n":          `lanes: "orders" is not NAME=TABLE`,
		"lanes: {}\n":              "lanes: names no lane",
		"lanes:\n  a:\n":           "lane a has neither a table nor settings",
		"lanes:\n  a: {rows: 3}\n": "lane a: rows is no setting of a lane",
		"lanes:\n  a: {table: t, batch: {rows: many}}\n":       `lane a: batch.rows: "many" is not a whole number`,
		"lanes:\n  a: {table: t, poison: drop}\n":              `lane a: poison: "drop" is not one of park, skip, halt`,
		"lanes:\n  a: {route: x}\n":                            `lanes: lane "a" has no table`,
		"lanes:\n  a: t\n  b: t\n":                             `publish the same table`,
		"lanes: a=t\ntable: u\n":                               "table: set together with lanes",
		"lanes:\n  a: {table: t, poll: {min: 1s}}\n":           "lane a: poll.max: 50ms is less than poll.min (1s)",
		"lanes:\n  a: {table: t, topics: {create: true}}\n":    "lane a: topics.create is no setting of a lane",
		"lanes:\n  a: {table: t}\n  a: {table: u}\nroute: x\n": "",
	} {
		_, err := Load(Source{Flags: required, File: writeFile(t, text)}, Everything)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
