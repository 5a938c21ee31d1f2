package checkpoint

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/position/positiontest"
)

func anyProgress(t *rapid.T) position.Position {
	p := position.Position{From: positiontest.Snapshot(t)}
	if rapid.Bool().Draw(t, "open") {
		p.To = positiontest.Snapshot(t)
		p.LastID = rapid.Int64Min(0).Draw(t, "last id")
	}
	return p
}

func anyCheckpoint(t *rapid.T) Record {
	return Record{
		Version: Version, Lane: rapid.String().Draw(t, "lane"), Seq: rapid.Int64Min(0).Draw(t, "seq"), Position: anyProgress(t),
		Identity: ClusterIdentity{
			Identity: pg.Identity{
				SystemIdentifier: "7412345678901234567", Timeline: rapid.Int64Min(1).Draw(t, "timeline"),
				Database: rapid.String().Draw(t, "database"), DatabaseOID: rapid.Uint32().Draw(t, "oid"),
			},
			ClusterID: "c",
		},
		Owner: "host/1/abc", OwnerEpoch: rapid.Int64Min(1).Draw(t, "epoch"),
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyCheckpoint(t)
		value, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(value)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\ncame back as %+v, %v", value, got, err)
		}
		if got.Open() != want.Open() {
			t.Fatal("an open window was lost")
		}
	})
}

// The names of the fields are a contract with every relay that is upgraded over a running one.
func TestCheckpointTextIsStable(t *testing.T) {
	c := Record{
		Version: 1, Lane: "outbox", Seq: 7,
		Position: position.Position{From: position.Snapshot{Xmin: 10, Xmax: 12, Xip: []uint64{10}}, To: position.Snapshot{Xmin: 12, Xmax: 13}, LastID: 99},
		Identity: ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "s", Timeline: 1, Database: "app", DatabaseOID: 5}, ClusterID: "k"},
		Owner:    "h/1/a", OwnerEpoch: 3,
	}
	const want = `{"version":1,"lane":"outbox","seq":7,"from":"10:12:10","to":"12:13:","last_id":99,` +
		`"cluster_identity":{"system_identifier":"s","timeline":1,"database":"app","database_oid":5,"cluster_id":"k"},"owner":"h/1/a","owner_epoch":3}`
	if got, err := c.Encode(); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	c.Position = c.Closed()
	if got, err := c.Encode(); err != nil || strings.Contains(string(got), `"to"`) || strings.Contains(string(got), "last_id") {
		t.Errorf("a closed window is written: %s, %v", got, err)
	}
}

func TestDecodeCheckpointRefuses(t *testing.T) {
	for name, value := range map[string]string{
		"nothing":            ``,
		"garbage":            `garbage`,
		"null":               `null`,
		"an empty object":    `{}`,
		"a list":             `[]`,
		"an older version":   `{"version":0,"seq":1,"from":"1:1:"}`,
		"a newer version":    `{"version":2,"seq":1,"from":"1:1:"}`,
		"no progress":        `{"version":1,"seq":1}`,
		"an empty progress":  `{"version":1,"seq":1,"from":""}`,
		"a broken snapshot":  `{"version":1,"seq":1,"from":"2:1:"}`,
		"a negative seq":     `{"version":1,"seq":-1,"from":"1:1:"}`,
		"a broken end":       `{"version":1,"seq":1,"from":"1:1:","to":"x"}`,
		"two values":         `{"version":1,"seq":1,"from":"1:1:"}{}`,
		"a number too large": `{"version":1,"seq":9223372036854775808,"from":"1:1:"}`,
	} {
		if c, err := Decode([]byte(value)); err == nil {
			t.Errorf("%s was read as %+v", name, c)
		} else if !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("%s: the error does not say what was read: %v", name, err)
		}
	}
}

func FuzzDecodeCheckpoint(f *testing.F) {
	f.Add([]byte(`{"version":1,"lane":"outbox","seq":7,"from":"10:12:10","to":"12:13:","last_id":99}`))
	f.Add([]byte(`{"version":1,"seq":0,"from":"1:1:"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := Decode(value)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil || !reflect.DeepEqual(c, back) {
			t.Fatalf("%s: %+v came back as %+v, %v", value, c, back, err)
		}
		if c.Seq < 0 || c.From.IsZero() || c.Version != Version || !json.Valid(again) {
			t.Fatalf("%s was taken for a checkpoint", value)
		}
	})
}
