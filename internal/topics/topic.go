package topics

import (
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Topic is what a session assumes of it until it looks again.
type Topic struct {
	MaxBytes   int32 // its max.message.bytes; 0 if it may not be read
	partitions int
	// minInSync is its min.insync.replicas.
	minInSync int
	// replicas in sync of the partition that has fewest.
	inSync int
}

// knownOf is what the metadata of a topic say.
func knownOf(detail kadm.TopicDetail) Topic {
	known := Topic{partitions: len(detail.Partitions), minInSync: 1}
	least := math.MaxInt
	for _, p := range detail.Partitions {
		inSync := len(p.ISR)
		if p.Leader < 0 {
			inSync = 0
		}
		least = min(least, inSync)
	}
	if known.partitions > 0 {
		known.inSync = least
	}
	return known
}

// with adds what the settings of the topic say.
func (k Topic) with(settings []kadm.Config) Topic {
	for _, c := range settings {
		if c.Value == nil {
			continue
		}
		n, err := strconv.ParseInt(*c.Value, 10, 32)
		if err != nil || n <= 0 {
			continue
		}
		switch c.Key {
		case "max.message.bytes":
			k.MaxBytes = int32(n)
		case "min.insync.replicas":
			k.minInSync = int(n)
		}
	}
	return k
}
