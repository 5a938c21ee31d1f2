//go:build unix

package scratch

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// ours reports whether what info describes belongs to this user, or to one of the others that it
// gives folders to. Every user may make a folder of our name among the temporary files; what is in
// such a folder is nothing to open or to remove.
func ours(info fs.FileInfo, others []int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == os.Geteuid() || slices.Contains(others, int(stat.Uid)))
}

// hold opens the file, with O_CREATE or not, and locks it for as long as it is open. It does not
// wait, and follows no symbolic link.
func hold(file string, flag int) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
