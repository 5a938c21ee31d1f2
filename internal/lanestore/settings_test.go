package lanestore

import (
	"strings"
	"testing"
	"time"
)

// Each setting that decides where or whether a row goes is among those that replicas compare.
func TestEverySettingInWhichReplicasShouldAgreeIsCompared(t *testing.T) {
	before := Agreed{Name: "orders"}.Settings()
	for name, after := range map[string]Agreed{
		"name":              {Name: "other"},
		"partitioner":       {Name: "orders", Partitioner: "murmur2"},
		"poison":            {Name: "orders", Poison: "skip"},
		"route":             {Name: "orders", Route: "events"},
		"topics.allow":      {Name: "orders", TopicsAllow: []string{"events.*"}},
		"topics.create":     {Name: "orders", TopicsCreate: true},
		"topics.partitions": {Name: "orders", TopicsPartitions: 12},
		"topics.patience":   {Name: "orders", TopicsTimeout: time.Minute},
	} {
		if got := before.differences(after.Settings()); !strings.HasPrefix(got, name+" was ") {
			t.Errorf("%s has changed, and what differs is %q", name, got)
		}
	}
	one, other := Agreed{TopicsAllow: []string{"a", "b"}}, Agreed{TopicsAllow: []string{"b", "a"}}
	if got := one.Settings().differences(other.Settings()); got != "" {
		t.Errorf("the order of topics.allow counts as a difference: %q", got)
	}
}
