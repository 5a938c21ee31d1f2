package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

// killFamily kills a process and its children with SIGKILL. The children of a Postgres have process
// their own groups, so they are looked for by their parent, which is stopped first so that it has
// no more of them.
func killFamily(parent *process.Process) error {
	if !parent.Alive() {
		return nil
	}
	if err := parent.Freeze(); err != nil {
		return err
	}
	children, err := childrenOf(parent.ID())
	for _, child := range children {
		if killErr := syscall.Kill(child, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", child, killErr))
		}
	}
	return errors.Join(err, parent.Kill(), awaitEnd(children))
}

// awaitEnd waits until killed processes are gone: one that was in the middle of a write finishes
// that write first, and a server that is started again must not meet it.
func awaitEnd(ids []int) error {
	deadline := time.Now().Add(stopTimeout)
	for _, id := range ids {
		for running(id) {
			if time.Now().After(deadline) {
				return fmt.Errorf("kill process %d: it does not end", id)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// running reports whether a process exists and is not only waiting for its parent to take note of
// its end.
func running(id int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func childrenOf(parent int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range files {
		status, err := os.Open(file)
		if err != nil { // the process has ended meanwhile
			continue
		}
		if statusParent(status) == parent {
			id, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return nil, errors.Join(err, status.Close())
			}
			children = append(children, id)
		}
		_ = status.Close() // read only
	}
	return children, nil
}

// statusParent reads the parent from a status file of /proc, or 0.
func statusParent(status *os.File) int {
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "PPid:"); ok {
			parent, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				return 0
			}
			return parent
		}
	}
	return 0
}
