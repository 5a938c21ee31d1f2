package partitioning

import "testing"

// The tables were printed by the clients themselves: librdkafka 2.0.2
// (rd_kafka_msg_partitioner_consistent_random, called in its shared library) and Sarama 1.61.1
// (NewHashPartitioner and NewReferenceHashPartitioner). librdkafka's fnv1a gave the same numbers as
// Sarama's first, and its murmur2 the same as the Java client.
var clientVectors = []struct {
	key        string
	librdkafka [8]int
	sarama     [8]int
	reference  [8]int
}{
	{"a", [8]int{0, 1, 0, 4, 3, 7, 907, 1756872260}, [8]int{0, 0, 0, 6, 0, 26, 76, 468965076}, [8]int{0, 0, 2, 3, 8, 22, 572, 1678518572}},
	{"ab", [8]int{0, 1, 2, 5, 5, 35, 885, 511920238}, [8]int{0, 0, 0, 2, 6, 46, 946, 1294271946}, [8]int{0, 0, 0, 2, 6, 46, 946, 1294271946}},
	{"abc", [8]int{0, 0, 0, 5, 6, 28, 578, 891568578}, [8]int{0, 1, 2, 5, 11, 31, 331, 440920331}, [8]int{0, 1, 2, 5, 11, 31, 331, 440920331}},
	{"kafka", [8]int{0, 1, 2, 6, 11, 49, 399, 1539077399}, [8]int{0, 1, 2, 4, 5, 45, 545, 221496545}, [8]int{0, 1, 2, 4, 5, 45, 545, 221496545}},
	{"foobar", [8]int{0, 1, 2, 6, 5, 19, 69, 519446422}, [8]int{0, 0, 0, 4, 0, 26, 576, 1080231576}, [8]int{0, 0, 2, 5, 8, 22, 72, 1067252072}},
	{"21", [8]int{0, 0, 1, 6, 4, 32, 532, 2104968885}, [8]int{0, 0, 0, 3, 0, 2, 452, 1930258452}, [8]int{0, 0, 2, 6, 8, 46, 196, 217225196}},
	{"order-100", [8]int{0, 1, 1, 6, 1, 33, 333, 555382686}, [8]int{0, 1, 0, 0, 9, 27, 477, 402879477}, [8]int{0, 1, 0, 0, 9, 27, 477, 402879477}},
	{"order-101", [8]int{0, 1, 1, 0, 7, 5, 955, 1444759308}, [8]int{0, 0, 1, 2, 10, 8, 858, 386101858}, [8]int{0, 0, 1, 2, 10, 8, 858, 386101858}},
	{"user-1002", [8]int{0, 1, 2, 4, 5, 13, 613, 599407966}, [8]int{0, 0, 2, 2, 2, 12, 462, 1697792462}, [8]int{0, 0, 0, 0, 6, 36, 186, 449691186}},
	{"018f4d3e-7c1a-7b2c-9d3e-4f5a6b7c8d9e", [8]int{0, 1, 1, 3, 7, 19, 919, 902437272}, [8]int{0, 1, 0, 3, 9, 11, 861, 792978861}, [8]int{0, 1, 0, 3, 9, 11, 861, 792978861}},
	{"日本語", [8]int{0, 1, 1, 5, 1, 5, 405, 671830758}, [8]int{0, 1, 1, 4, 1, 45, 945, 2141233945}, [8]int{0, 1, 1, 5, 7, 3, 703, 6249703}},
	{"a-little-bit-longer-string", [8]int{0, 0, 2, 0, 2, 40, 890, 130003243}, [8]int{0, 1, 0, 4, 9, 13, 313, 780662313}, [8]int{0, 1, 0, 4, 9, 13, 313, 780662313}},
}

func TestPartitionersAreThoseOfTheirClients(t *testing.T) {
	librdkafka, sarama, reference := mustNew(t, "librdkafka"), mustNew(t, "sarama"), mustNew(t, "sarama-reference")
	for _, v := range clientVectors {
		for i, n := range counts {
			key := []byte(v.key)
			if got := librdkafka.Partition(key, n); got != v.librdkafka[i] {
				t.Errorf("librdkafka: Partition(%q, %d) = %d, the client chooses %d", v.key, n, got, v.librdkafka[i])
			}
			if got := sarama.Partition(key, n); got != v.sarama[i] {
				t.Errorf("sarama: Partition(%q, %d) = %d, the client chooses %d", v.key, n, got, v.sarama[i])
			}
			if got := reference.Partition(key, n); got != v.reference[i] {
				t.Errorf("sarama-reference: Partition(%q, %d) = %d, the client chooses %d", v.key, n, got, v.reference[i])
			}
		}
	}
}

// The check values that the authors of the two hashes publish.
func TestHashesHaveTheirPublishedCheckValues(t *testing.T) {
	if got := crc32([]byte("123456789")); got != 0xcbf43926 {
		t.Errorf("crc32 = %#x", got)
	}
	for key, want := range map[string]uint32{"": 0x811c9dc5, "a": 0xe40c292c, "foobar": 0xbf9cf968} {
		if got := fnv1a([]byte(key)); got != want {
			t.Errorf("fnv1a(%q) = %#x, want %#x", key, got, want)
		}
	}
}
