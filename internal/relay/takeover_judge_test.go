package relay

import (
	"errors"
	"strings"
	"testing"
)

var live = Lineage{SystemIdentifier: "70", Timeline: 2, Database: "app", DatabaseOID: 16384, ClusterID: "kafka"}

// checkpointOf is a checkpoint of lane "outbox" at seq, with one thing changed in its lineage.
func checkpointOf(seq int64, change func(*Lineage)) *Checkpoint {
	c := &Checkpoint{Version: 1, Lane: "outbox", Seq: seq, Progress: Progress{From: beginning}, Lineage: live}
	if change != nil {
		change(&c.Lineage)
	}
	return c
}

func lineageWith(change func(*Lineage)) *Lineage {
	l := live
	change(&l)
	return &l
}

func TestJudgeGoesOnWhereTheLogsAgree(t *testing.T) {
	for name, c := range map[string]struct {
		row  laneState
		last *Checkpoint
	}{
		"a new lane":                              {laneState{}, nil},
		"a takeover that died before its claim":   {laneState{}, checkpointOf(0, nil)},
		"the last intent was committed":           {laneState{seq: 7, started: true, lineage: &live}, checkpointOf(7, nil)},
		"the last intent was not committed":       {laneState{seq: 8, started: true, lineage: &live}, checkpointOf(7, nil)},
		"a promotion raised the timeline":         {laneState{seq: 7, started: true, lineage: lineageWith(func(l *Lineage) { l.Timeline = 1 })}, checkpointOf(7, func(l *Lineage) { l.Timeline = 1 })},
		"the database was given another name":     {laneState{seq: 7, started: true, lineage: &live}, checkpointOf(7, func(l *Lineage) { l.Database = "old" })},
		"the first intent was never committed":    {laneState{seq: 1, started: true, lineage: &live}, checkpointOf(0, nil)},
		"a row that was written without lineages": {laneState{seq: 7, started: true}, checkpointOf(7, nil)},
	} {
		if err := judge("outbox", c.row, c.last, live); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJudgeHaltsOnEveryContradiction(t *testing.T) {
	started := func(seq int64) laneState { return laneState{seq: seq, started: true, lineage: &live} }
	for name, c := range map[string]struct {
		row  laneState
		last *Checkpoint
		says string
	}{
		"an empty checkpoint topic after the start": {started(7), nil, "topic was deleted"},
		"an empty topic and nothing published yet":  {started(0), nil, "checkpoint topic is empty"},
		"Postgres is one behind":                    {started(6), checkpointOf(7, nil), "restored to an earlier time"},
		"Postgres is far behind":                    {started(1), checkpointOf(900, nil), "restored to an earlier time"},
		"the state in Postgres was removed":         {laneState{}, checkpointOf(7, nil), "state was removed"},
		"Kafka is two behind":                       {started(9), checkpointOf(7, nil), "lost records"},
		"Kafka is far behind":                       {started(900), checkpointOf(7, nil), "lost records"},
		"another Postgres cluster":                  {started(7), checkpointOf(7, func(l *Lineage) { l.SystemIdentifier = "71" }), "system identifier 71"},
		"another database":                          {started(7), checkpointOf(7, func(l *Lineage) { l.DatabaseOID = 5 }), "oid 5"},
		"another Kafka cluster":                     {started(7), checkpointOf(7, func(l *Lineage) { l.ClusterID = "other" }), "Kafka cluster other"},
		"an earlier timeline":                       {started(7), checkpointOf(7, func(l *Lineage) { l.Timeline = 3 }), "earlier timeline 2"},
		"a row of another Postgres cluster":         {laneState{seq: 7, started: true, lineage: lineageWith(func(l *Lineage) { l.SystemIdentifier = "71" })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of another database":                 {laneState{seq: 7, started: true, lineage: lineageWith(func(l *Lineage) { l.DatabaseOID = 5 })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of another Kafka cluster":            {laneState{seq: 7, started: true, lineage: lineageWith(func(l *Lineage) { l.ClusterID = "other" })}, checkpointOf(7, nil), "relay_lanes"},
		"a row of a later timeline":                 {laneState{seq: 7, started: true, lineage: lineageWith(func(l *Lineage) { l.Timeline = 3 })}, checkpointOf(7, nil), "relay_lanes"},
	} {
		err := judge("outbox", c.row, c.last, live)
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

func TestJudgeLineage(t *testing.T) {
	if err := judgeLineage("outbox", nil, live); err != nil {
		t.Errorf("without a checkpoint: %v", err)
	}
	if err := judgeLineage("outbox", checkpointOf(3, nil), live); err != nil {
		t.Errorf("the same lineage: %v", err)
	}
	other := checkpointOf(3, nil)
	other.Lane = "billing"
	if err := judgeLineage("outbox", other, live); err == nil || !strings.Contains(err.Error(), "relay_lanes were changed or lost") {
		t.Errorf("the checkpoint of another lane: %v", err)
	}
	err := judgeLineage("outbox", checkpointOf(3, func(l *Lineage) { l.ClusterID = "x" }), live)
	if fault := (*HaltError)(nil); !errors.As(err, &fault) || !strings.Contains(fault.Try, "name") {
		t.Errorf("another cluster: %v", err)
	}
}
