//go:build unix

package scratch

import (
	"errors"
	"os"
	"syscall"
)

// hold opens the file, with O_CREATE or not, and locks it for as long as it is open. It does not wait.
func hold(file string, flag int) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
