package partitioning

import "testing"

// counts are the numbers of partitions that the tables of the clients were made with.
var counts = [8]int{1, 2, 3, 7, 12, 50, 1000, 1<<31 - 1}

// The table was printed by Kafka's own classes (kafka-clients 4.3.1), with
// testdata/JavaVectors.java.
var javaVectors = []struct {
	key        string
	hash       int32
	partitions [8]int
}{
	{"a", -1563381124, [8]int{0, 0, 1, 5, 4, 24, 524, 584102524}},
	{"ab", 316155434, [8]int{0, 0, 2, 0, 2, 34, 434, 316155434}},
	{"abc", 479470107, [8]int{0, 1, 0, 4, 3, 7, 107, 479470107}},
	{"abcd", -1323649548, [8]int{0, 0, 2, 5, 8, 0, 100, 823834100}},
	{"abcde", 461995741, [8]int{0, 1, 1, 4, 1, 41, 741, 461995741}},
	{"abcdef", 1870650108, [8]int{0, 0, 0, 5, 0, 8, 108, 1870650108}},
	{"abcdefg", -346467175, [8]int{0, 1, 1, 4, 1, 23, 473, 1801016473}},
	{"abcdefgh", -955427363, [8]int{0, 1, 0, 0, 9, 35, 285, 1192056285}},
	{"0", 971027396, [8]int{0, 0, 2, 3, 8, 46, 396, 971027396}},
	{"1", -1993445489, [8]int{0, 1, 0, 2, 3, 9, 159, 154038159}},
	{"21", -973932308, [8]int{0, 0, 0, 3, 0, 40, 340, 1173551340}},
	{"foobar", -790332482, [8]int{0, 0, 0, 0, 6, 16, 166, 1357151166}},
	{"kafka", -798503068, [8]int{0, 0, 1, 3, 4, 30, 580, 1348980580}},
	{"a-little-bit-long-string", -985981536, [8]int{0, 0, 2, 1, 8, 12, 112, 1161502112}},
	{"a-little-bit-longer-string", -1486304829, [8]int{0, 1, 2, 0, 11, 19, 819, 661178819}},
	{"order-100", -955961047, [8]int{0, 1, 1, 3, 1, 1, 601, 1191522601}},
	{"order-101", 1112104930, [8]int{0, 0, 1, 6, 10, 30, 930, 1112104930}},
	{"user-1002", 494644997, [8]int{0, 1, 2, 0, 5, 47, 997, 494644997}},
	{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, [8]int{0, 1, 2, 3, 5, 27, 677, 2088585677}},
	{"00000000-0000-0000-0000-000000000000", 713427837, [8]int{0, 1, 0, 3, 9, 37, 837, 713427837}},
	{"018f4d3e-7c1a-7b2c-9d3e-4f5a6b7c8d9e", 1883688537, [8]int{0, 1, 0, 3, 9, 37, 537, 1883688537}},
	{"äöü", -2070914556, [8]int{0, 0, 2, 5, 8, 42, 92, 76569092}},
	{"日本語", 1431860170, [8]int{0, 0, 1, 6, 10, 20, 170, 1431860170}},
	{"🚀", 761778625, [8]int{0, 1, 1, 6, 1, 25, 625, 761778625}},
	{"order/42 x", 606516169, [8]int{0, 1, 1, 0, 1, 19, 169, 606516169}},
}

func TestMurmur2IsThatOfTheJavaClient(t *testing.T) {
	for _, v := range javaVectors {
		if got := int32(murmur2([]byte(v.key))); got != v.hash {
			t.Errorf("murmur2(%q) = %d, the Java client has %d", v.key, got, v.hash)
		}
		for i, n := range counts {
			if got := mustNew(t, "murmur2").Partition([]byte(v.key), n); got != v.partitions[i] {
				t.Errorf("Partition(%q, %d) = %d, the Java client chooses %d", v.key, n, got, v.partitions[i])
			}
		}
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, v := range []struct {
		key  []byte
		hash int32
	}{{nil, 275646681}, {every, -1948347274}} {
		if got := int32(murmur2(v.key)); got != v.hash {
			t.Errorf("murmur2 of %d bytes = %d, the Java client has %d", len(v.key), got, v.hash)
		}
	}
}
