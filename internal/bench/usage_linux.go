package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is the unit of processor times in /proc, the same on every architecture that Go
// supports.
const ticksPerSecond = 100

// usageOf reads what a process holds and has used. The usage that wait returns will not do: its
// peak begins with that of the parent.
func usageOf(pid int) (usage, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read the memory of the relay: %w", err)
	}
	var u usage
	for line := range bytes.Lines(status) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kilobytes, err := strconv.ParseInt(string(fields[1]), 10, 64)
		switch name := string(fields[0]); {
		case name == "VmRSS:" && err == nil:
			u.resident = kilobytes << 10
		case name == "VmHWM:" && err == nil:
			u.peak = kilobytes << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read the processor time of the relay: %w", err)
	}
	// The name of the program, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12
	if len(fields) <= system {
		return usage{}, fmt.Errorf("read the processor time of the relay: %d fields", len(fields))
	}
	for _, field := range [][]byte{fields[user], fields[system]} {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("read the processor time of the relay: %w", err)
		}
		u.processor += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	u.known = true
	return u, nil
}
