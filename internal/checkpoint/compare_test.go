package checkpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

var live = ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "70", Timeline: 2, Database: "app", DatabaseOID: 16384}, ClusterID: "kafka"}

// checkpointOf is a checkpoint of lane "outbox" at seq, with one thing changed in its identity.
func checkpointOf(seq int64, change func(*ClusterIdentity)) *Record {
	c := &Record{Version: 1, Lane: "outbox", Seq: seq, Position: position.Position{From: position.Beginning}, Identity: live}
	if change != nil {
		change(&c.Identity)
	}
	return c
}

func identityWith(change func(*ClusterIdentity)) *ClusterIdentity {
	l := live
	change(&l)
	return &l
}

func TestLogsThatAgreeGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		row  Row
		last *Record
	}{
		"a new lane":                                {Row{}, nil},
		"a takeover that died before its end":       {Row{}, checkpointOf(0, nil)},
		"the last intent was committed":             {Row{Seq: 7, Started: true, Identity: &live}, checkpointOf(7, nil)},
		"the last intent was not committed":         {Row{Seq: 8, Started: true, Identity: &live}, checkpointOf(7, nil)},
		"a promotion raised the timeline":           {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.Timeline = 1 })}, checkpointOf(7, func(l *ClusterIdentity) { l.Timeline = 1 })},
		"the database was given another name":       {Row{Seq: 7, Started: true, Identity: &live}, checkpointOf(7, func(l *ClusterIdentity) { l.Database = "old" })},
		"the first intent was never committed":      {Row{Seq: 1, Started: true, Identity: &live}, checkpointOf(0, nil)},
		"a row that was written without identities": {Row{Seq: 7, Started: true}, checkpointOf(7, nil)},
	} {
		if err := Compare("outbox", c.row, c.last, live, Server{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryContradictionHalts(t *testing.T) {
	started := func(seq int64) Row { return Row{Seq: seq, Started: true, Identity: &live} }
	for name, c := range map[string]struct {
		row  Row
		last *Record
		says string
	}{
		"an empty checkpoint topic after the start": {started(7), nil, "were deleted"},
		"an empty topic and nothing published yet":  {started(0), nil, "checkpoint topic is empty"},
		"Postgres is one behind":                    {started(6), checkpointOf(7, nil), "restored to an earlier time"},
		"Postgres is far behind":                    {started(1), checkpointOf(900, nil), "restored to an earlier time"},
		"the state in Postgres was removed":         {Row{}, checkpointOf(7, nil), "state was removed"},
		"Kafka is two behind":                       {started(9), checkpointOf(7, nil), "lost records"},
		"Kafka is far behind":                       {started(900), checkpointOf(7, nil), "lost records"},
		"another Postgres cluster":                  {started(7), checkpointOf(7, func(l *ClusterIdentity) { l.SystemIdentifier = "71" }), "system identifier 71"},
		"another database":                          {started(7), checkpointOf(7, func(l *ClusterIdentity) { l.DatabaseOID = 5 }), "oid 5"},
		"another Kafka cluster":                     {started(7), checkpointOf(7, func(l *ClusterIdentity) { l.ClusterID = "other" }), "Kafka cluster other"},
		"an earlier timeline":                       {started(7), checkpointOf(7, func(l *ClusterIdentity) { l.Timeline = 3 }), "earlier timeline 2"},
		"a row of another Postgres cluster":         {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.SystemIdentifier = "71" })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of another database":                 {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.DatabaseOID = 5 })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of another Kafka cluster":            {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.ClusterID = "other" })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of a later timeline":                 {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.Timeline = 3 })}, checkpointOf(7, nil), "relay_lanes"},
	} {
		err := Compare("outbox", c.row, c.last, live, Server{})
		fault := (*HaltError)(nil)
		if !errors.As(err, &fault) {
			t.Errorf("%s: got %v, want a halt", name, err)
			continue
		}
		if !strings.Contains(fault.Diagnosis, c.says) || !strings.Contains(fault.Diagnosis, "outbox") || fault.Try == "" {
			t.Errorf("%s: the diagnosis does not say %q and the lane, or there is nothing to try: %v", name, c.says, fault)
		}
	}
}

// named is a row at seq whose batch, and whose confirmed batch before it, are those of the
// checkpoints that follow.
func named(seq, confirmed int64) Row {
	owner, epoch := "host/1/a", int64(4)
	at := position.Position{From: position.Snapshot{Xmin: uint64(100 + seq), Xmax: uint64(100 + seq)}}
	before := position.Position{From: position.Snapshot{Xmin: uint64(100 + confirmed), Xmax: uint64(100 + confirmed)}}
	return Row{
		Seq: seq, Started: true, Identity: &live, After: &at, BatchOwner: &owner, BatchEpoch: &epoch, Confirmed: &before, ConfirmedSeq: &confirmed,
	}
}

// batchAt is the checkpoint of the batch that named names.
func batchAt(seq int64, change func(*Record)) *Record {
	c := checkpointOf(seq, nil)
	c.Owner, c.OwnerEpoch = "host/1/a", 4
	c.From = position.Snapshot{Xmin: uint64(100 + seq), Xmax: uint64(100 + seq)}
	if change != nil {
		change(c)
	}
	return c
}

func TestBatchesOfOneNumberAreToldApart(t *testing.T) {
	now := Server{Xmax: 200, Newest: 199, Table: "outbox"}
	for name, c := range map[string]struct {
		row   Row
		last  *Record
		now   Server
		cause Cause
	}{
		"the last intent was committed":          {named(7, 6), batchAt(7, nil), now, ""},
		"and confirmed":                          {named(7, 7), batchAt(7, nil), now, ""},
		"the last intent was not committed":      {named(8, 7), batchAt(7, nil), now, ""},
		"another owner":                          {named(7, 6), batchAt(7, func(c *Record) { c.Owner = "host/2/b" }), now, AnotherBatch},
		"another epoch":                          {named(7, 6), batchAt(7, func(c *Record) { c.OwnerEpoch++ }), now, AnotherBatch},
		"another progress":                       {named(7, 6), batchAt(7, func(c *Record) { c.LastID = 3 }), now, AnotherBatch},
		"another progress of the batch before":   {named(8, 7), batchAt(7, func(c *Record) { c.From.Xip = []uint64{106} }), now, AnotherBatch},
		"what was confirmed is lost":             {named(8, 8), batchAt(7, nil), now, CheckpointBehind},
		"the server has come less far":           {named(7, 6), batchAt(7, nil), Server{Xmax: 106, Newest: 100}, DatabaseBehind},
		"the server has come exactly as far":     {named(7, 6), batchAt(7, nil), Server{Xmax: 107, Newest: 100}, ""},
		"a row of a transaction yet to come":     {named(7, 6), batchAt(7, nil), Server{Xmax: 200, Newest: 200}, ForeignRows},
		"such a row in a lane that is new":       {Row{}, nil, Server{Xmax: 200, Newest: 900}, ForeignRows},
		"an empty topic of another cluster":      {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.ClusterID = "other" })}, nil, now, AnotherCluster},
		"an empty topic, and another database":   {Row{Seq: 7, Started: true, Identity: identityWith(func(l *ClusterIdentity) { l.DatabaseOID = 5 })}, nil, now, AnotherDatabase},
		"an empty topic of the same cluster":     {named(7, 7), nil, now, CheckpointLost},
		"a promotion that lost batches":          {named(5, 5), batchAt(7, func(c *Record) { c.Identity.Timeline = 1 }), now, DatabaseBehind},
		"a promotion that lost nothing":          {named(7, 7), batchAt(7, func(c *Record) { c.Identity.Timeline = 1 }), now, ""},
		"a row that was removed":                 {Row{}, batchAt(7, nil), now, RowRemoved},
		"a row from before the names of batches": {Row{Seq: 7, Started: true, Identity: &live}, batchAt(7, nil), now, ""},
	} {
		err := Compare("outbox", c.row, c.last, live, c.now)
		fault := (*HaltError)(nil)
		if errors.As(err, &fault); fault == nil && (err != nil || c.cause != "") {
			t.Errorf("%s: got %v, want %q", name, err, c.cause)
			continue
		}
		if fault != nil && (fault.Cause != c.cause || !strings.Contains(fault.Try, "relay recover outbox")) {
			t.Errorf("%s: got %s (%v), want %q and the command to go on", name, fault.Cause, fault, c.cause)
		}
	}
}

func TestCompareIdentity(t *testing.T) {
	if err := CompareIdentity("outbox", nil, live); err != nil {
		t.Errorf("without a checkpoint: %v", err)
	}
	if err := CompareIdentity("outbox", checkpointOf(3, nil), live); err != nil {
		t.Errorf("the same identity: %v", err)
	}
	other := checkpointOf(3, nil)
	other.Lane = "billing"
	if err := CompareIdentity("outbox", other, live); err == nil || !strings.Contains(err.Error(), "relay_lanes were changed or removed") {
		t.Errorf("the checkpoint of another lane: %v", err)
	}
	err := CompareIdentity("outbox", checkpointOf(3, func(l *ClusterIdentity) { l.ClusterID = "x" }), live)
	if fault := (*HaltError)(nil); !errors.As(err, &fault) || !strings.Contains(fault.Try, "name") {
		t.Errorf("another cluster: %v", err)
	}
}
