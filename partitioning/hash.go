package partitioning

import (
	"encoding/binary"
	hashcrc32 "hash/crc32"
)

// murmur2 is Austin Appleby's MurmurHash2, 32 bits, with the seed of Kafka's Java client. Kafka's
// class Utils holds the reference; its ints are signed, the bits are the same.
func murmur2(key []byte) uint32 {
	const (
		seed     = 0x9747b28c
		multiply = 0x5bd1e995
		shift    = 24
	)
	h := uint32(seed) ^ uint32(len(key))
	for len(key) >= 4 {
		k := binary.LittleEndian.Uint32(key) * multiply
		k ^= k >> shift
		h = h*multiply ^ k*multiply
		key = key[4:]
	}
	if len(key) > 0 {
		var tail uint32
		for i, b := range key {
			tail |= uint32(b) << (8 * i)
		}
		h = (h ^ tail) * multiply
	}
	h ^= h >> 13
	h *= multiply
	return h ^ h>>15
}

// crc32 is the CRC of zlib and Ethernet, which librdkafka uses.
func crc32(key []byte) uint32 { return hashcrc32.ChecksumIEEE(key) }

// fnv1a is the 32-bit FNV-1a hash of Fowler, Noll and Vo. The one in hash/fnv is a writer that has
// to be allocated.
func fnv1a(key []byte) uint32 {
	const (
		offset = 2166136261
		prime  = 16777619
	)
	h := uint32(offset)
	for _, b := range key {
		h = (h ^ uint32(b)) * prime
	}
	return h
}
