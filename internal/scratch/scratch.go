package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// lockName is the file in a folder that its maker keeps locked.
const lockName = "in-use"

// Folder is a temporary folder.
type Folder struct {
	// Path of the folder.
	Path string

	lock *os.File
}

// New makes a folder in parent whose name begins with prefix, and removes those of that prefix that
// their makers, killed, have left there. An empty parent is the system's folder for temporary
// files. Only folders of this user are removed, and those of the users whose ids are given, because
// a folder may have been handed over to one of them.
func New(parent, prefix string, users ...int) (*Folder, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if err := sweep(parent, prefix, users); err != nil {
		return nil, fmt.Errorf("remove abandoned folders: %w", err)
	}
	path, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	// The lock is held before the file has its name: another process that sweeps in between would
	// find it free.
	unnamed := filepath.Join(path, lockName+".new")
	lock, err := hold(unnamed, os.O_CREATE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock folder: %w", err), os.RemoveAll(path))
	}
	if err := os.Rename(unnamed, filepath.Join(path, lockName)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock folder: %w", err), lock.Close(), os.RemoveAll(path))
	}
	return &Folder{Path: path, lock: lock}, nil
}

// Remove removes the folder with all that is in it. A second call does nothing.
func (f *Folder) Remove() error {
	// A process that was just killed may still be writing a last file, so that a folder is not
	// empty a moment after it was emptied.
	var err error
	for range 50 {
		err = os.RemoveAll(f.Path)
		if err == nil || errors.Is(err, fs.ErrPermission) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
		f.lock = nil
	}
	if err != nil {
		return fmt.Errorf("remove folder: %w", err)
	}
	return nil
}

// sweep removes the folders that are not locked. One without a lock file is being made at this
// moment. If every user may make files, as in /tmp, every user can make one of our prefix: those of
// others are left alone, whatever is in them.
func sweep(parent, prefix string, users []int) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() || len(entry.Name()) <= len(prefix) || entry.Name()[:len(prefix)] != prefix {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		if info, err := os.Lstat(path); err != nil || !info.IsDir() || !ours(info, users) {
			continue // gone meanwhile, or somebody else's
		}
		lock, err := hold(filepath.Join(path, lockName), 0)
		if err != nil {
			continue // held, or being made
		}
		if err := errors.Join(os.RemoveAll(path), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}
