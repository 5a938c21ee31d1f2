package sandbox

import "syscall"

// MemoryFolder is a folder whose files are in memory, if it has room for the servers of tests: 6
// GiB. Otherwise it is empty. Tests make and drop hundreds of databases of 300 files each, and a
// file system on a disk takes 50 to 170 ms of a processor for one where this takes 12 ms.
func MemoryFolder() string {
	const folder, magic, room = "/dev/shm", 0x01021994, 6 << 30
	var system syscall.Statfs_t
	if err := syscall.Statfs(folder, &system); err != nil || system.Type != magic {
		return ""
	}
	if system.Bavail*uint64(system.Bsize) < room {
		return ""
	}
	return folder
}
