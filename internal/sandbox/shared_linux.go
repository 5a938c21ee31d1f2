package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// removeShared removes the System V shared memory segment that a killed Postgres leaves; it names
// it in its pid file, which it removes itself when it stops in order.
func (p *Postgres) removeShared() error {
	file, err := os.ReadFile(filepath.Join(p.dataFolder(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the pid file of Postgres: %w", err)
	}
	const line = 6 // "key id", the seventh
	lines := strings.Split(string(file), "\n")
	if len(lines) <= line {
		return nil // killed before it made the segment
	}
	words := strings.Fields(lines[line])
	if len(words) != 2 {
		return nil
	}
	id, err := strconv.Atoi(words[1])
	if err != nil {
		return fmt.Errorf("read the pid file of Postgres: %w", err)
	}
	_, _, errno := syscall.Syscall(syscall.SYS_SHMCTL, uintptr(id), 0 /* IPC_RMID */, 0)
	if errno != 0 && errno != syscall.EINVAL && errno != syscall.EIDRM {
		return fmt.Errorf("remove shared memory segment %d: %w", id, errno)
	}
	return nil
}
