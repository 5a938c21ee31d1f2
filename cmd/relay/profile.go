package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"github.com/urfave/cli/v2"
)

// profileFlag names a folder for profiles. Not shown for relay run: profiles are for people who
// work on the relay.
func profileFlag(hidden bool) cli.Flag {
	return &cli.StringFlag{Name: "profile", Hidden: hidden,
		Usage: "write profiles of each relay, processor time and allocations, to the folder `DIR`"}
}

// profiled runs work and writes what it used to files in the folder, cpu-PID.pprof and
// allocs-PID.pprof; with an empty folder it only runs work. There is no HTTP page for it: a profile
// costs time, and shows what a stranger need not know.
func profiled(folder string, work func() error) error {
	if folder == "" {
		return work()
	}
	file := func(kind string) string { return filepath.Join(folder, fmt.Sprintf("%s-%d.pprof", kind, os.Getpid())) }
	cpu, err := os.Create(file("cpu"))
	if err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return errors.Join(fmt.Errorf("write a profile: %w", err), cpu.Close())
	}
	err = work()
	pprof.StopCPUProfile()
	return errors.Join(err, cpu.Close(), writeAllocations(file("allocs")))
}

func writeAllocations(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write a profile: %w", err)
	}
	runtime.GC() // the profile is that of the last collection
	err = pprof.Lookup("allocs").WriteTo(file, 0)
	return errors.Join(err, file.Close())
}
