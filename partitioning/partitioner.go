package partitioning

import (
	"fmt"
	"strings"
)

// Partitioner maps keys to partitions. It has no state, is safe for concurrent use and allocates
// nothing. The zero value is murmur2.
type Partitioner struct {
	algorithm algorithm
}

// algorithm is an index into algorithms.
type algorithm uint8

const (
	murmur2Masked algorithm = iota
	crc32Unsigned
	fnv1aAbsolute
	fnv1aMasked
)

// algorithms holds the name of every algorithm, and the names that other libraries have for the
// same thing. With records that always have a key, librdkafka's *_random partitioners are the same
// as those without the suffix.
var algorithms = [...]struct {
	name    string
	aliases []string
}{
	murmur2Masked: {"murmur2", []string{"java", "murmur2_random"}},
	crc32Unsigned: {"librdkafka", []string{"crc32", "consistent", "consistent_random"}},
	fnv1aAbsolute: {"sarama", []string{"fnv1a", "fnv1a_random"}},
	fnv1aMasked:   {"sarama-reference", nil},
}

// New returns the partitioner with the name: one of Names, or an alias that a client library uses
// for the same function (java, murmur2_random, crc32, consistent, consistent_random, fnv1a,
// fnv1a_random). Names are exact, in lower case. The error lists the names.
func New(name string) (Partitioner, error) {
	for i, a := range algorithms {
		if a.name == name {
			return Partitioner{algorithm(i)}, nil
		}
		for _, alias := range a.aliases {
			if alias == name {
				return Partitioner{algorithm(i)}, nil
			}
		}
	}
	return Partitioner{}, fmt.Errorf("unknown partitioner %q: want one of %s", name, strings.Join(Names(), ", "))
}

// Names lists the partitioners that New knows, without their aliases; the first is the relay's
// default.
func Names() []string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = a.name
	}
	return names
}

// Name returns the name of the partitioner, as Names lists it, whichever alias New was given.
func (p Partitioner) Name() string { return algorithms[p.algorithm].name }

// Partition returns the partition for the key, from 0 to partitions-1. Fewer than one partition
// counts as one.
func (p Partitioner) Partition(key []byte, partitions int) int {
	if partitions < 1 {
		return 0
	}
	// The widths are those of the clients, so that the sign of a hash has the same effect; 64 bits
	// for the division keep the result the same on machines where int has 32.
	n := int64(partitions)
	switch p.algorithm {
	case crc32Unsigned:
		return int(int64(crc32(key)) % n)
	case fnv1aAbsolute:
		remainder := int64(int32(fnv1a(key))) % n
		if remainder < 0 {
			remainder = -remainder
		}
		return int(remainder)
	case fnv1aMasked:
		return int(int64(fnv1a(key)&0x7fffffff) % n)
	default:
		return int(int64(murmur2(key)&0x7fffffff) % n)
	}
}
