package partitioning

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustNew(t testing.TB, name string) Partitioner {
	t.Helper()
	p, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewFindsEveryNameAndAlias(t *testing.T) {
	for name, want := range map[string]string{
		"murmur2": "murmur2", "java": "murmur2", "murmur2_random": "murmur2",
		"librdkafka": "librdkafka", "crc32": "librdkafka", "consistent": "librdkafka", "consistent_random": "librdkafka",
		"sarama": "sarama", "fnv1a": "sarama", "fnv1a_random": "sarama",
		"sarama-reference": "sarama-reference",
	} {
		if got := mustNew(t, name).Name(); got != want {
			t.Errorf("New(%q) is %q, want %q", name, got, want)
		}
	}
	names := []string{"murmur2", "librdkafka", "sarama", "sarama-reference"}
	if got := Names(); !slices.Equal(got, names) {
		t.Errorf("Names() = %q, want %q", got, names)
	}
}

func TestNewRefusesOtherNamesAndListsItsOwn(t *testing.T) {
	for _, name := range []string{"", "Murmur2", "murmur3", "random", " murmur2"} {
		_, err := New(name)
		if err == nil {
			t.Errorf("New(%q) gave no error", name)
			continue
		}
		for _, known := range Names() {
			if !strings.Contains(err.Error(), known) {
				t.Errorf("the error for %q does not name %s: %v", name, known, err)
			}
		}
	}
}

func TestZeroPartitionerIsMurmur2(t *testing.T) {
	var zero Partitioner
	if zero != mustNew(t, "murmur2") {
		t.Errorf("the zero Partitioner is %s", zero.Name())
	}
}

func TestFewerThanOnePartitionCountsAsOne(t *testing.T) {
	for _, name := range Names() {
		for _, n := range []int{0, -1, math.MinInt} {
			if got := mustNew(t, name).Partition([]byte("order-1"), n); got != 0 {
				t.Errorf("%s: Partition with %d partitions = %d", name, n, got)
			}
		}
	}
}

func TestPartitionStaysInRangeAndLeavesTheKeyAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		n := rapid.IntRange(1, math.MaxInt32).Draw(t, "partitions")
		p, err := New(rapid.SampledFrom(Names()).Draw(t, "name"))
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(key)
		got := p.Partition(key, n)
		if got < 0 || got >= n {
			t.Fatalf("%s: partition %d of %d", p.Name(), got, n)
		}
		if again := p.Partition(key, n); again != got || !slices.Equal(key, before) {
			t.Fatalf("%s: %d, then %d; key %x, then %x", p.Name(), got, again, before, key)
		}
	})
}

// 1,000 keys over 10 partitions: a partitioner that piles them up would pass every other test of
// this file.
func TestKeysSpreadOverAllPartitions(t *testing.T) {
	for _, name := range Names() {
		var rows [10]int
		for i := range 1000 {
			rows[mustNew(t, name).Partition([]byte("customer-"+string(rune('A'+i))), len(rows))]++
		}
		if least := slices.Min(rows[:]); least < 50 {
			t.Errorf("%s: partitions got %v keys", name, rows)
		}
	}
}

func FuzzPartition(f *testing.F) {
	f.Add([]byte(nil), 1)
	f.Add([]byte("order-1"), 12)
	f.Add([]byte{0xff, 0, 0x80}, math.MaxInt32)
	f.Add([]byte("abcd"), -5)
	f.Add([]byte("abcde"), math.MaxInt)
	f.Fuzz(func(t *testing.T, key []byte, n int) {
		for _, name := range Names() {
			if got := mustNew(t, name).Partition(key, n); got < 0 || got >= max(n, 1) {
				t.Errorf("%s: Partition(%x, %d) = %d", name, key, n, got)
			}
		}
		h := fnv.New32a()
		h.Write(key)
		if got := fnv1a(key); got != h.Sum32() {
			t.Errorf("fnv1a(%x) = %#x, hash/fnv has %#x", key, got, h.Sum32())
		}
	})
}

func TestPartitionAllocatesNothing(t *testing.T) {
	key := []byte("018f4d3e-7c1a-7b2c-9d3e-4f5a6b7c8d9e")
	for _, name := range Names() {
		p := mustNew(t, name)
		if got := testing.AllocsPerRun(100, func() { p.Partition(key, 12) }); got != 0 {
			t.Errorf("%s: %v allocations a call", name, got)
		}
	}
}

func BenchmarkPartition(b *testing.B) {
	key := []byte("018f4d3e-7c1a-7b2c-9d3e-4f5a6b7c8d9e")
	for _, name := range Names() {
		p := mustNew(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(key)))
			for b.Loop() {
				p.Partition(key, 12)
			}
		})
	}
}
