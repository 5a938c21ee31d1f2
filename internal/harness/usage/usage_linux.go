package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// ticksPerSecond is the unit of processor times in /proc, the same on every architecture that Go
// supports.
const ticksPerSecond = 100

// Of reads what a process holds and has used. The usage that wait returns will not do: its peak
// begins with that of the parent.
func Of(pid int) (Usage, error) {
	u, err := memory(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	times, err := readTimes(pid)
	if err != nil {
		return Usage{}, err
	}
	u.Processor = times.own
	return u, nil
}

// Family reads what a process and its children have used and hold, those that have ended included
// in the processor time. Memory that they share is counted once for each, and Peak is the sum of
// those that live. For Postgres, pid is that of the postmaster.
func Family(pid int) (sum Usage, err error) {
	times, err := readTimes(pid)
	if err != nil {
		return Usage{}, err
	}
	if sum, err = memory(pid); err != nil {
		return Usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	sum.Processor = times.own + times.waited
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Usage{}, fmt.Errorf("list processes: %w", err)
	}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		times, err := readTimes(child)
		if err == nil && times.parent != pid {
			continue
		}
		var u Usage
		if err == nil {
			u, err = memory(child)
		}
		if errors.Is(err, errEnded) {
			continue // since the list was made; its parent has its time, or will have
		}
		if err != nil {
			return Usage{}, err
		}
		sum.Processor += times.own + times.waited
		sum.Resident += u.Resident
		sum.Peak += u.Peak
	}
	return sum, nil
}

// memory reads what a process holds.
func memory(pid int) (Usage, error) {
	status, err := readFile(pid, "status")
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Known: true}
	for line := range bytes.Lines(status) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kilobytes, err := strconv.ParseInt(string(fields[1]), 10, 64)
		switch name := string(fields[0]); {
		case name == "VmRSS:" && err == nil:
			u.Resident = kilobytes << 10
		case name == "VmHWM:" && err == nil:
			u.Peak = kilobytes << 10
		}
	}
	return u, nil
}

// errEnded says that a process ended before or while it was read.
var errEnded = errors.New("the process has ended")

func readFile(pid int, name string) ([]byte, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, errEnded
	}
	return content, err
}

// times are the parent of a process and its processor times.
type times struct {
	parent      int
	own, waited time.Duration // waited: that of children which have ended
}

func readTimes(pid int) (t times, err error) {
	stat, err := readFile(pid, "stat")
	if err != nil {
		return t, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	// The name of the program, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const parent, user, system, waitedUser, waitedSystem = 1, 11, 12, 13, 14
	if len(fields) <= waitedSystem {
		return t, fmt.Errorf("read the processor time of process %d: %d fields", pid, len(fields))
	}
	var ticks [waitedSystem + 1]int64
	for _, i := range []int{parent, user, system, waitedUser, waitedSystem} {
		if ticks[i], err = strconv.ParseInt(string(fields[i]), 10, 64); err != nil {
			return t, fmt.Errorf("read the processor time of process %d: %w", pid, err)
		}
	}
	const tick = time.Second / ticksPerSecond
	return times{
		parent: int(ticks[parent]), own: time.Duration(ticks[user]+ticks[system]) * tick,
		waited: time.Duration(ticks[waitedUser]+ticks[waitedSystem]) * tick,
	}, nil
}
