package kafkatx

// places are the partitions that a transaction may have written to. The client tells the outcomes
// of its records one after the other, mostly many of one partition in a row.
type places struct {
	lastTopic     string
	lastPartition int32
	lastEnd       *int64
	ends          map[string]map[int32]*int64 // the offset behind the last record that was acknowledged, 0 if none was
}

// add is called for each record. The offset is that of an acknowledged record, otherwise -1.
func (p *places) add(topic string, partition int32, offset int64) {
	if p.lastEnd == nil || partition != p.lastPartition || topic != p.lastTopic {
		p.turnTo(topic, partition)
	}
	*p.lastEnd = max(*p.lastEnd, offset+1)
}

func (p *places) turnTo(topic string, partition int32) {
	if p.ends == nil {
		p.ends = make(map[string]map[int32]*int64)
	}
	ends := p.ends[topic]
	if ends == nil {
		ends = make(map[int32]*int64)
		p.ends[topic] = ends
	}
	end := ends[partition]
	if end == nil {
		end = new(int64)
		ends[partition] = end
	}
	p.lastTopic, p.lastPartition, p.lastEnd = topic, partition, end
}

// partitions lists them, with the offsets behind the last acknowledged records.
func (p *places) partitions() (Partitions, map[Place]int64) {
	all := make(Partitions, len(p.ends))
	ends := make(map[Place]int64)
	for topic, partitions := range p.ends {
		for partition, end := range partitions {
			place := Place{Topic: topic, Partition: partition}
			all.Add(place)
			ends[place] = *end
		}
	}
	return all, ends
}
