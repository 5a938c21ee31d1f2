package relay

import "github.com/outbox-relay/relay/internal/kafkatx"

// places are the partitions that a transaction may have written to. The client tells the outcomes of its records one after
// the other, mostly many of one partition in a row.
type places struct {
	lastTopic     string
	lastPartition int32
	sets          map[string]map[int32]struct{}
}

// add is called for each record.
func (p *places) add(topic string, partition int32) {
	if p.sets != nil && partition == p.lastPartition && topic == p.lastTopic {
		return
	}
	if p.sets == nil {
		p.sets = make(map[string]map[int32]struct{})
	}
	set := p.sets[topic]
	if set == nil {
		set = make(map[int32]struct{})
		p.sets[topic] = set
	}
	set[partition] = struct{}{}
	p.lastTopic, p.lastPartition = topic, partition
}

// partitions lists them.
func (p *places) partitions() kafkatx.Partitions {
	all := make(kafkatx.Partitions, len(p.sets))
	for topic, set := range p.sets {
		for partition := range set {
			all.Add(kafkatx.Place{Topic: topic, Partition: partition})
		}
	}
	return all
}
